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

-- Whether the entry says nothing but that the writer of this token is at work.
local function is_alone(header, token)
  local rest = HOLDS + 3 + #token -- where the ':' stands
  return sub(header, HOLDS, rest) == 'p i' .. token .. ':' and not find(header, ' ', rest, true)
end

-- No other writer or reader came since the intent: the entry holds nothing else, nor did it since.
local function alone(key, how, version, known, ttl_ms, fields)
  if how == 'put' and version > known and put(key, version .. ' ' .. ZERO .. 'c', fields, ttl_ms) then return true end
  call('UNLINK', key)
  return false
end

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
  local header = call('HGET', key, '#')
  -- 0. Nearly always; the rest would do the same, in twice the time of the commands.
  if header and is_alone(header, token) then
    return alone(key, how, version, sub(header, 1, 16), ttl_ms, fields)
  end
  local now = clock()
  local entry = read(header, now)
  local own, shown = taken_out(entry, token), false
  if how == 'void' or not own and how ~= 'undone' then
    void(entry)
  elseif how == 'drop' then
    entry.holds, entry.version = 'p', version > entry.version and version or entry.version
  elseif how == 'put' then
    shown = settle(entry, own, version)
  end
  -- 1. Nothing worth keeping.
  local open = #entry.intents > 0
  if entry.holds == 'p' and not open and not entry.lease then
    call('UNLINK', key)
    return false
  end
  -- 2. Our row, or no row; 3. what is there stays.
  local life_ms = open and intents_ms(entry, now) or ttl_ms
  if shown then return replace(key, entry, fields, life_ms) and not open end
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
