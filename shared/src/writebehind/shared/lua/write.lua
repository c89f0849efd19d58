-- Apply writes to cache entries: version, merge, pending count, no expiry while pending. One entity per call.
--
-- KEYS     one entry per write (an entry may appear several times)
-- ARGV[1]  msgpack: the entity's fields, each {name, merge, order, low, high}; merge is last|sum|max|min, order is n|f|s
--          (see less), low and high bound a sum, as decimal text or ''
-- ARGV[2]  newest version this client has seen
-- ARGV[3]  msgpack, per key: {index, value, index, value, ...} with 1-based indexes; an empty list is a delete
-- ARGV[4]  token for an increment that needs its base, and ARGV[5] how long a token is good, in microseconds
--
-- Returns msgpack {now, {reply, ...}}; a reply is
--   {0, version, generation, undo}  applied. undo: {index, previous value or false, previous mark or false, ...}; for a delete
--                                   {was complete or false, index, value, mark, ...}
--   {1, token or ''}                nothing changed: load the row, fill the entry, come again ('': somebody else is loading it)
--   {2, index}                      nothing changed: the sum would leave its column's range
--
-- This is the hot path: a thousand writes a call. Tables are filled by counters (`#t` walks the table), and texts that do not
-- change from one write to the next are made once.
local fields, patches = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local seen, token, lease_us = tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local newest = math.max(now, seen + 1)
local newest_text = text(newest)
local marks = {}
for index, field in ipairs(fields) do marks[index] = (field[2] == 'sum' and '+' or '~') .. field[1] end

local function next_version(entry_version)
  local previous = entry_version and tonumber(entry_version) or 0
  if previous < newest then return newest, newest_text end
  return previous + 1, text(previous + 1)
end

local function store(key, changes, size, version_text, found)
  local generation, pending = found[2], found[3]
  if not generation or generation == '0' then generation = version_text end
  changes[size + 1], changes[size + 2] = '#v', version_text
  changes[size + 3], changes[size + 4] = '#g', generation
  changes[size + 5], changes[size + 6] = '#p', pending and text(pending + 1) or '1'
  call('HSET', key, unpack(changes, 1, size + 6))
  if not pending and (found[1] or found[5]) then call('PERSIST', key) end
  return tonumber(generation)
end

local function lease_base(key, found)
  local lease = found[5]
  local leased_at = lease and tonumber(string.match(lease, ':(%d+)$'))
  if leased_at and now - leased_at < lease_us then return {1, ''} end
  call('HSET', key, '#l', token .. ':' .. text(now))
  if not found[1] and not lease then call('PEXPIRE', key, math.ceil(lease_us / 1000)) end
  return {1, token}
end

local wanted, shape = {}, {}  -- the HMGET of the last patch; most patches of a call touch the same fields

local function names(patch, size)
  local same = #shape == size
  for at = 1, size, 2 do
    if not same or shape[at] ~= patch[at] then
      wanted, shape = {'#v', '#g', '#p', '#c', '#l'}, patch
      for n = 1, size, 2 do
        wanted[n + 5], wanted[n + 6] = fields[patch[n]][1], marks[patch[n]]
      end
      return wanted
    end
  end
  return wanted
end

local function apply(key, patch)
  local size = #patch
  local found = call('HMGET', key, unpack(names(patch, size)))
  local version, version_text = next_version(found[1])
  local changes, changed, undo, undone = {}, 0, {}, 0
  for at = 1, size, 2 do
    local index, value = patch[at], patch[at + 1]
    local field, current, mark = fields[index], found[at + 5], found[at + 6]
    local merge = field[2]
    if merge == 'sum' then
      if not current and not found[4] then return lease_base(key, found) end
      local sum = add((current and current ~= '\0') and current or '0', value)
      if field[4] ~= '' and (less(sum, field[4], 'n') or less(field[5], sum, 'n')) then return {2, index} end
      changes[changed + 1], changes[changed + 2] = field[1], sum
      changes[changed + 3], changes[changed + 4] = marks[index], mark and add(mark, value) or value
      changed = changed + 4
    elseif merge == 'last' or pick(current, value, merge, field[3]) ~= current then
      undo[undone + 1], undo[undone + 2], undo[undone + 3] = index, current, mark
      changes[changed + 1], changes[changed + 2] = field[1], value
      changes[changed + 3], changes[changed + 4] = marks[index], version_text
      changed, undone = changed + 4, undone + 3
    end
  end
  return {0, version, store(key, changes, changed, version_text, found), undo}
end

local function delete(key)
  local found = call('HMGET', key, '#v', '#g', '#p', '#c', '#l')
  local version, version_text = next_version(found[1])
  local undo, gone = {found[4]}, {}
  for index, field in ipairs(fields) do
    local old = call('HMGET', key, field[1], '~' .. field[1])
    if old[1] then
      undo[#undo + 1] = index
      undo[#undo + 1] = old[1]
      undo[#undo + 1] = old[2]
    end
    gone[#gone + 1] = field[1]
    gone[#gone + 1] = '~' .. field[1]
  end
  call('HDEL', key, unpack(gone))
  return {0, version, store(key, {'#c', '0', '#d', version_text}, 4, version_text, found), undo}
end

local replies = {}
for at, key in ipairs(KEYS) do
  local patch = patches[at]
  replies[at] = patch[1] and apply(key, patch) or delete(key)
end
return cmsgpack.pack({now, replies})
