-- Tell entries that records of theirs are in the database.
--
-- KEYS     entries (an entry may appear once per generation)
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  time to live of a clean entry, in milliseconds
-- ARGV[3]  msgpack {generations, counts, sums}: columns with one value per key; sums one column per Sum field ('' for none)
--
-- A record of another generation means that the entry was made without it (the cache was wiped or unreachable; generation 0: the
-- record was enqueued without the cache, and an entry that was only filled has generation 0 too): the entry may miss it. Clean, it is deleted; else it is tainted. Returns msgpack: the 1-based indexes of tainted entries still pending.
local fields, columns = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local ttl_ms, generations, counts, sums = ARGV[2], columns[1], columns[2], columns[3]
local pending_only, sum_names = {'#p', '#d'}, {}
for _, field in ipairs(fields) do
  if field[2] == 'sum' then
    sum_names[#sum_names + 1] = field[1]
    pending_only[#pending_only + 1] = '+' .. field[1]
  else
    pending_only[#pending_only + 1] = '~' .. field[1]
  end
end

local function lower_sums(key, at)
  for n, name in ipairs(sum_names) do
    local flushed = sums[n][at]
    if flushed ~= '' then
      local held = redis.call('HGET', key, '+' .. name)
      if held then redis.call('HSET', key, '+' .. name, add(held, negate(flushed))) end
    end
  end
end

local tainted = {}
for at, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, '#g', '#p', '#c', '#x', '#l')
  local pending = tonumber(found[2]) or 0
  if not found[1] then
    if found[5] then redis.call('DEL', key) end
  elseif generations[at] ~= 0 and tonumber(found[1]) == generations[at] then
    pending = pending - counts[at]
    if pending > 0 then
      redis.call('HSET', key, '#p', text(pending))
      lower_sums(key, at)
      if found[4] then tainted[#tainted + 1] = at end
    elseif found[4] or found[3] == '0' then
      redis.call('DEL', key)
    else
      redis.call('HDEL', key, unpack(pending_only))
      redis.call('PEXPIRE', key, ttl_ms)
    end
  elseif pending > 0 then
    redis.call('HSETNX', key, '#x', '1')
    redis.call('HDEL', key, '#l')
    tainted[#tainted + 1] = at
  else
    redis.call('DEL', key)
  end
end
return cmsgpack.pack(tainted)
