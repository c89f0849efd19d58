-- An entry of a cache-aside or write-through entity: the row's fields, and in '#' the same bookkeeping as in entry.lua, as
-- far as it applies, so that whoever looks at entries reads both alike:
--
--   VVVVVVVVVVVVVVVV 0000000000000000s xEXPIRES:COST iTOKEN:ENDS jTOKEN:ENDS lTOKEN:TIME
--
-- V the version of the row, or the newest one a writer told of (write-through only). s what the entry holds: c the row,
-- n that there is none, p nothing. x when it expires and how long a load takes, for early recompute. i and j the intents of
-- writers who may commit until ENDS: while one is open nobody fills, and readers go to the database. A j may not put a
-- row any more. l the lease of the one reader who may fill. Times in microseconds of the cache's clock.
--
-- This file is put in front of the direct_*.lua scripts.
local call, sub, find, gmatch, format = redis.call, string.sub, string.find, string.gmatch, string.format

local ZERO = '0000000000000000'
local HOLDS = 34 -- where the letter stands; a header of this length has nothing else to say

local function clock()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

-- What is invalidated: the row goes, the reader who loads it may not fill, and no open writer may put what it has read.
local function void(entry)
  entry.holds, entry.recompute, entry.lease = 'p', false, false
  for at = 1, #entry.intents do entry.intents[at].sort = 'j' end
end

-- An intent that ran out takes everything with it: its writer may have committed before it died. So does what an entity left
-- that was written behind before: writes that are pending, or an entry that is to be mended. `stale` tells that the hash
-- still has fields which no longer count.
local function read(header, now)
  local entry = {version = ZERO, holds = 'p', recompute = false, intents = {}, lease = false, stale = false}
  if not header then return entry end
  entry.version, entry.holds = sub(header, 1, 16), sub(header, HOLDS, HOLDS)
  entry.stale = not find(header, '^[cnp]%f[ %z]', HOLDS)
  for sort, token, time in gmatch(sub(header, HOLDS + 1), ' (.)(%S+):(%d+)') do
    if sort == 'l' then
      entry.lease = {token = token, time = tonumber(time)}
    elseif sort == 'x' then
      entry.recompute = {expires = tonumber(token), cost = tonumber(time)}
    elseif tonumber(time) > now then
      entry.intents[#entry.intents + 1] = {sort = sort, token = token, ends = tonumber(time)}
    else
      entry.stale = true
    end
  end
  if entry.stale then void(entry) end
  return entry
end

local function written(entry)
  local parts = {entry.version, ' ', ZERO, entry.holds}
  if entry.recompute then parts[#parts + 1] = format(' x%.0f:%.0f', entry.recompute.expires, entry.recompute.cost) end
  for at = 1, #entry.intents do
    local intent = entry.intents[at]
    parts[#parts + 1] = format(' %s%s:%.0f', intent.sort, intent.token, intent.ends)
  end
  if entry.lease then parts[#parts + 1] = format(' l%s:%.0f', entry.lease.token, entry.lease.time) end
  return table.concat(parts)
end

-- Set fields of the entry, or none besides '#'. False when the cache is out of memory: then it is as it was.
local function put(key, header, fields, ttl_ms)
  local reply = redis.pcall('HSET', key, '#', header, unpack(fields))
  if type(reply) == 'table' and reply.err then return false end
  call('PEXPIRE', key, math.max(1, math.ceil(ttl_ms)))
  return true
end

-- The same in the place of whatever was there, which is deleted first: a full cache allows that.
local function replace(key, entry, fields, ttl_ms)
  call('DEL', key)
  return put(key, written(entry), fields, ttl_ms)
end

-- How long the entry must stay for its intents.
local function intents_ms(entry, now)
  local ends = now
  for at = 1, #entry.intents do ends = math.max(ends, entry.intents[at].ends) end
  return (ends - now) / 1000
end
