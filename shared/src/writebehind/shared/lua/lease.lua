-- Read entries for a reader that may have to fill them, and give it the token to do so, to one reader per entry.
--
-- KEYS     entries
-- ARGV[1]  token, ARGV[2] how long a token is good, in microseconds
--
-- Returns msgpack {{granted, {field, value, ...}}, ...}
local token, lease_us = ARGV[1], tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local absent = ZERO .. ' ' .. ZERO .. 'p'
local ours = ' l' .. lease_of(token, now)

local replies = {}
for at = 1, #KEYS do
  local key = KEYS[at]
  local entry, header = call('HGETALL', key), nil
  for field = 1, #entry, 2 do
    if entry[field] == '#' then header = entry[field + 1] end
  end
  -- The lease is the last part of the bookkeeping: no need to know the entity's fields to put another there.
  header = header or absent
  local lease = find(header, ' l', CLEAN, true) or #header + 1
  local granted = not is_leased(sub(header, lease + 2), now, lease_us)
  if granted then
    call('HSET', key, '#', sub(header, 1, lease - 1) .. ours)
    if #entry == 0 then call('PEXPIRE', key, math.ceil(lease_us / 1000)) end
  end
  replies[at] = {granted, entry}
end
return cmsgpack.pack(replies)
