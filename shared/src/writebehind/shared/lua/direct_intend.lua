-- Announce a write: the entry is deleted, and until the writer is done, or the intent's life is over, nobody fills it.
--
-- KEYS     entries
-- ARGV[1]  life of the intents in microseconds
-- ARGV[2]  msgpack, per key: the writer's token
--
-- Returns msgpack {announced, ...}; false when the cache is full. Announcing twice prolongs.
local life_us, tokens = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2])
local now = clock()

local replies = {}
for at = 1, #KEYS do
  local key, token = KEYS[at], tokens[at]
  local entry = read(call('HGET', key, '#'), now)
  local intents, kept = entry.intents, {}
  for n = 1, #intents do
    if intents[n].token ~= token then kept[#kept + 1] = intents[n] end
  end
  kept[#kept + 1] = {sort = 'i', token = token, ends = now + life_us}
  entry.holds, entry.recompute, entry.lease, entry.intents = 'p', false, false, kept
  replies[at] = replace(key, entry, {}, intents_ms(entry, now))
end
return cmsgpack.pack(replies)
