-- Announce a write: the entry is deleted, and until the writer is done, or the intent's life is over, nobody fills it.
--
-- KEYS     entries
-- ARGV[1]  life of the intents in microseconds
-- ARGV[2]  msgpack, per key: the writer's token
--
-- Returns msgpack {announced, ...}; false when the cache is full. Announcing twice prolongs.
local life_us, tokens = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2])
local now = clock()

-- Nobody else writes the row or loads it.
local function alone(key, version, token)
  call('DEL', key)
  return put(key, version .. ' ' .. ZERO .. 'p i' .. token .. ':' .. format('%.0f', now + life_us), {}, life_us / 1000)
end

local function among(key, header, token)
  local entry = read(header, now)
  local intents, kept = entry.intents, {}
  for n = 1, #intents do
    if intents[n].token ~= token then kept[#kept + 1] = intents[n] end
  end
  kept[#kept + 1] = {sort = 'i', token = token, ends = now + life_us}
  entry.holds, entry.recompute, entry.lease, entry.intents = 'p', false, false, kept
  return replace(key, entry, {}, intents_ms(entry, now))
end

local replies = {}
for at = 1, #KEYS do
  local key, token = KEYS[at], tokens[at]
  local header = call('HGET', key, '#')
  if not header or #header == HOLDS then -- nearly always: `among` would do the same, in twice the time of the commands
    replies[at] = alone(key, header and sub(header, 1, 16) or ZERO, token)
  else
    replies[at] = among(key, header, token)
  end
end
return cmsgpack.pack(replies)
