-- An entry's bookkeeping: one text in the hash field '#', beside the declared fields. Every field that a script names costs
-- the cache as much time as everything else it does with it, and reading these texts by position costs next to nothing.
--
--   VVVVVVVVVVVVVVVV GGGGGGGGGGGGGGGGsP =IDS @VVVVVVVVVVVVVVVVIDS +IDdelta dVVVVVVVVVVVVVVVV hGGGGGGGGGGGGGGGG ltoken:time
--
-- V newest version and G generation, 16 digits each. s what the entry holds: p parts of the row, c all of it ("complete"),
-- n that there is no row; a capital when it is tainted. P the pending writes, nothing when there are none. The rest only when it
-- applies: marks (which version set a field last: '=' the newest one, '@' an older one), sums of deltas that are not settled,
-- a pending delete, u1 after an undo, the generations before an entry was put in doubt (doubt.lua), the lease of the one reader who
-- may fill, always last. IDS are the three-character names that scripts.py gives the fields: up to 64 characters, a hash is stored
-- in half the memory.
--
-- An entry of which only a lease is known has version 0 and holds parts. This file is put in front of the scripts.
local call, sub, find, byte, gmatch, format = redis.call, string.sub, string.find, string.byte, string.gmatch, string.format

local ZERO = '0000000000000000'
local CLEAN = 34  -- the length of a header without pending writes, marks, lease

local function text(version)
  return format('%016d', version)
end

-- Where the parts after the pending count begin, with their blank, and the count.
local function pending_of(header)
  local digit, after = byte(header, CLEAN + 1, CLEAN + 2)
  if after == 32 then return digit - 48, CLEAN + 2 end  -- most entries have less than ten
  local stop = find(header, ' ', CLEAN, true) or #header + 1
  return tonumber(sub(header, CLEAN + 1, stop - 1)) or 0, stop
end

local function read(header)
  if not header then return {version = ZERO, generation = ZERO, holds = 'p', pending = 0, marks = {}, sums = {}} end
  local marks, sums, version = {}, {}, sub(header, 1, 16)
  local pending, stop = pending_of(header)
  local flag = sub(header, CLEAN, CLEAN)
  local holds = string.lower(flag)
  local entry = {
    version = version, generation = sub(header, 18, 33), holds = holds, tainted = holds ~= flag, pending = pending,
    marks = marks, sums = sums, delete = false, undone = false, doubted = false, lease = false,
  }
  if stop > #header then return entry end
  for sort, part in gmatch(sub(header, stop), ' (.)(%S+)') do
    if sort == '=' then
      for id in gmatch(part, '...') do marks[id] = version end
    elseif sort == '@' then
      for id in gmatch(sub(part, 17), '...') do marks[id] = sub(part, 1, 16) end
    elseif sort == '+' then
      sums[sub(part, 1, 3)] = sub(part, 4)
    elseif sort == 'd' then
      entry.delete = part
    elseif sort == 'u' then
      entry.undone = true
    elseif sort == 'h' then
      entry.doubted = part
    elseif sort == 'l' then
      entry.lease = part
    end -- else it was a cache-aside or write-through entry before
  end
  return entry
end

local function present(entry)
  return entry.version ~= ZERO or entry.holds ~= 'p'
end

-- The marks and sums of an entry as text. A field that this declaration does not know loses its mark.
local function parts_of(entry, fields)
  local newest, older, added, version, marks, sums = '', nil, '', entry.version, entry.marks, entry.sums
  for index = 1, #fields do
    local id = fields[index][6]
    local mark, delta = marks[id], sums[id]
    if mark == version then
      newest = newest .. id
    elseif mark then
      older = older or {}
      older[mark] = (older[mark] or ' @' .. mark) .. id
    end
    if delta then added = added .. ' +' .. id .. delta end
  end
  if newest ~= '' then newest = ' =' .. newest end
  if older then
    for _, group in pairs(older) do newest = newest .. group end
  end
  return newest .. added
end

local function written(entry, fields)
  return entry.version .. ' ' .. entry.generation
    .. (entry.tainted and string.upper(entry.holds) or entry.holds)
    .. (entry.pending > 0 and format('%d', entry.pending) or '')
    .. parts_of(entry, fields)
    .. (entry.delete and ' d' .. entry.delete or '')
    .. (entry.undone and ' u1' or '')
    .. (entry.doubted and ' h' .. entry.doubted or '')
    .. (entry.lease and ' l' .. entry.lease or '')
end

-- A lease is TOKEN:TIME, the time in milliseconds, in hexadecimal digits to be short.
local function lease_of(token, now)
  return format('%s:%x', token, now / 1000)
end

-- Whether a lease still keeps others from filling.
local function is_leased(lease, now, lease_us)
  local time = lease and string.match(lease, ':(%x+)$')
  return time and now - tonumber(time, 16) * 1000 < lease_us
end

-- Combine a row's maximum or minimum with the candidate that is there. One that is the row's has no mark.
local function take_candidate(key, entry, field, value)
  local current = call('HGET', key, field[1])
  local picked = value ~= '\0' and pick(current, value, field[2], field[3]) or current or value
  if picked == current then return end
  call('HSET', key, field[1], picked)
  entry.marks[field[6]] = nil
end
