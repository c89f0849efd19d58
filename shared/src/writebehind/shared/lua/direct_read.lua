-- Read entries; give the right to load an absent one to one reader.
--
-- KEYS     entries
-- ARGV[1]  token, ARGV[2] how long a token is good, in microseconds
-- ARGV[3]  how much earlier than its expiry an entry is loaded anew, as a multiple of the time a load takes; 0: not at all
--
-- Returns msgpack {{state, {field, value, ...}}, ...}. States: 0 the fields count; 1 the same or nothing, and the token is
-- ours; 2 somebody else loads; 3 read the database and do not fill: a writer may commit, or the cache is full.
local token, lease_us, early = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()

local function header_of(entry)
  if entry[1] == '#' then return entry[2] end
  for at = 1, #entry, 2 do
    if entry[at] == '#' then return entry[at + 1] end
  end
  return false
end

local function leased(entry)
  return entry.lease and now - entry.lease.time < lease_us
end

local function look(key)
  local found = call('HGETALL', key)
  local header = header_of(found)
  -- 1. The row and nothing else, as nearly always.
  if header and #header == HOLDS and find(header, '[cn]', HOLDS) then return {0, found} end
  local entry = read(header, now)
  -- 2. A writer may commit at any moment.
  if #entry.intents > 0 then return {3, {}} end
  -- 3. The row; perhaps it is time to load it anew before it expires.
  if entry.holds ~= 'p' then
    local due = early > 0 and entry.recompute and now + entry.recompute.cost * early >= entry.recompute.expires
    if not due or leased(entry) then return {0, found} end
    entry.lease = {token = token, time = now}
    local reply = redis.pcall('HSET', key, '#', written(entry))
    if type(reply) == 'table' and reply.err then return {0, found} end
    return {1, found}
  end
  -- 4. Absent: one reader loads.
  if leased(entry) then return {2, {}} end
  entry.version, entry.lease = ZERO, {token = token, time = now}
  if replace(key, entry, {}, lease_us / 1000) then return {1, {}} end
  return {3, {}}
end

local replies = {}
for at = 1, #KEYS do replies[at] = look(KEYS[at]) end
return cmsgpack.pack(replies)
