-- End a write: clear its own intent, and let the entry show what is in the database, or nothing.
--
-- KEYS     entries
-- ARGV[1]  msgpack, per key: {the writer's token, how, version, time to live in milliseconds, {field, value, ...}}
--
-- 'put'    committed; the row takes the entry's place, unless something newer is known
-- 'drop'   committed; the entry stays absent, and nothing older than this version is put there
-- 'void'   the row was deleted, or was changed by somebody else: no open writer may put what it has read before
-- 'undone' nothing was written
--
-- Without our intent (it ran out, or the cache was wiped) anything may have been filled since: all but 'undone' void.
-- Returns msgpack {the entry shows our row, ...}
local writes = cmsgpack.unpack(ARGV[1])
local now = clock()

local function taken_out(entry, token)
  for at = 1, #entry.intents do
    if entry.intents[at].token == token then return table.remove(entry.intents, at) end
  end
  return false
end

-- Versions order the writers of a row. A row that is there while intents are open is hidden by them; it is served once
-- they are all cleared, so it must not be older than any of theirs.
local function settle(entry, own, version)
  if version <= entry.version then return false end
  entry.version, entry.holds = version, 'p'
  if own.sort ~= 'i' then return false end
  entry.holds = 'c'
  return true
end

local function finish(key, token, how, version, ttl_ms, fields)
  local entry = read(call('HGET', key, '#'), now)
  local own, put = taken_out(entry, token), false
  if how == 'void' or not own and how ~= 'undone' then
    void(entry)
  elseif how == 'drop' then
    entry.holds, entry.version = 'p', version > entry.version and version or entry.version
  elseif how == 'put' then
    put = settle(entry, own, version)
  end
  -- 1. Nothing worth keeping.
  local open = #entry.intents > 0
  if entry.holds == 'p' and not open and not entry.lease then
    call('UNLINK', key)
    return false
  end
  -- 2. Our row, or no row; 3. what is there stays.
  local life_ms = open and intents_ms(entry, now) or ttl_ms
  if put then return replace(key, entry, fields, life_ms) and not open end
  if not own and how == 'undone' then return false end
  if entry.holds == 'p' then
    replace(key, entry, {}, life_ms)
  else
    call('HSET', key, '#', written(entry))
    call('PEXPIRE', key, math.max(1, math.ceil(life_ms)))
  end
  return false
end

local replies = {}
for at = 1, #KEYS do replies[at] = finish(KEYS[at], unpack(writes[at])) end
return cmsgpack.pack(replies)
