-- Fill entries from rows that were read under this token. An invalidation, an intent or a wiped cache in between has
-- voided it.
--
-- KEYS     entries
-- ARGV[1]  token
-- ARGV[2]  msgpack, per key: {holds: 'c' or 'n', version, time to live in milliseconds, time the load took in microseconds
--          or 0 without early recompute, {field, value, ...}}
--
-- Returns msgpack {filled, ...}
local token, rows = ARGV[1], cmsgpack.unpack(ARGV[2])
local now = clock()

local replies = {}
for at = 1, #KEYS do
  local key, row = KEYS[at], rows[at]
  local entry = read(call('HGET', key, '#'), now)
  local filled = false
  if #entry.intents == 0 and entry.lease and entry.lease.token == token then
    entry.holds, entry.version, entry.lease, entry.recompute = row[1], row[2], false, false
    if row[4] > 0 then entry.recompute = {expires = now + row[3] * 1000, cost = row[4]} end
    filled = replace(key, entry, row[5], row[3])
  end
  replies[at] = filled
end
return cmsgpack.pack(replies)
