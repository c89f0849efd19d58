-- Read entries for a reader that may have to fill them, and give it the token to do so, to one reader per entry.
--
-- KEYS     entries
-- ARGV[1]  token, ARGV[2] how long a token is good, in microseconds
--
-- Returns msgpack {{granted, {field, value, ...}}, ...}
local token, lease_us = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local replies = {}
for at, key in ipairs(KEYS) do
  local entry = redis.call('HGETALL', key)
  local lease
  for field = 1, #entry, 2 do
    if entry[field] == '#l' then lease = entry[field + 1] end
  end
  local leased_at = lease and tonumber(string.match(lease, ':(%d+)$'))
  local granted = not (leased_at and now - leased_at < lease_us)
  if granted then
    redis.call('HSET', key, '#l', token .. ':' .. string.format('%.0f', now))
    if #entry == 0 then redis.call('PEXPIRE', key, math.ceil(lease_us / 1000)) end
  end
  replies[at] = {granted, entry}
end
return cmsgpack.pack(replies)
