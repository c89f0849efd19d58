-- Apply writes to cache entries: version, merge, pending count, no expiry while pending. One entity per call.
--
-- KEYS     one entry per write (an entry may appear several times)
-- ARGV[1]  msgpack: the entity's fields, each {name, merge, order, low, high, id}; merge is last|sum|max|min, order is n|f|s
--          (see less), low and high bound a sum, as decimal text or '', id is the field's name in the bookkeeping
-- ARGV[2]  newest version this client has seen
-- ARGV[3]  msgpack, per key: {index, value, index, value, ...} with 1-based indexes; an empty list is a delete
-- ARGV[4]  token for an increment that needs its base, and ARGV[5] how long a token is good, in microseconds
--
-- An entry is a hash: the declared fields as they are, and '#', whose layout entry.lua tells.
--
-- Returns msgpack {now, {reply, ...}}; a reply is
--   {0, version, generation, undo}  applied. undo: what was there, {'#', value of the patch's first field, ...}, or for a delete
--                                   of every field, false for what was not
--   {1, token or ''}                nothing changed: load the row, fill the entry, come again ('': somebody else is loading it)
--   {2, index}                      nothing changed: the sum would leave its column's range
--
-- This is the hot path: a thousand writes a call. Texts that do not change from one write to the next are made once, and
-- a patch of Last fields, over an entry that is absent, clean or was written by a patch of the same fields, is put together
-- from pieces of text; everything else goes through `read` and `written`.
local fields, patches = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local seen, token, lease_us = tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])
local KEYS, tonumber, unpack = KEYS, tonumber, unpack
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local newest = math.max(now, seen + 1)
local newest_text = text(newest)

-- The shape of the last patch, as most patches of a call touch the same fields: what to ask for, and the bookkeeping's parts
-- that it leaves when all its fields are Last (else nil).
local shape, names, marks = {}, {'#'}, nil

local function look_at(patch, size)
  local same = #shape == size
  for at = 1, size, 2 do
    if not same or shape[at] ~= patch[at] then
      shape, names, marks = patch, {'#'}, ' ='
      for n = 1, size, 2 do
        local field = fields[patch[n]]
        names[#names + 1] = field[1]
        marks = marks and field[2] == 'last' and marks .. field[6] or nil
      end
      return
    end
  end
end

local changes = {'#'}  -- the arguments of HSET, used again by each write

-- Version and generation of a write: as numbers, then as texts.
local function stamp(header)
  if not header then return newest, newest, newest_text, newest_text end
  local version, generation = tonumber(sub(header, 1, 16)) + 1, tonumber(sub(header, 18, 33))
  local version_text = newest_text
  if version <= newest then version = newest else version_text = text(version) end
  if generation == 0 then return version, version, version_text, version_text end
  return version, generation, version_text, sub(header, 18, 33)
end

-- Change the entry and answer. `pending` before the write: an entry that is there without any has an expiry.
local function store(key, found, size, pending, version, generation)
  call('HSET', key, unpack(changes, 1, size))
  if found[1] and pending == 0 then call('PERSIST', key) end
  return {0, version, generation, found}
end

local function overwrite(key, patch, size, found, pending)
  local header = found[1]
  local version, generation, version_text, generation_text = stamp(header)
  local flag = header and sub(header, CLEAN, CLEAN) or 'p'
  changes[2] = version_text .. ' ' .. generation_text .. flag .. format('%d', pending + 1) .. marks
  for at = 1, size, 2 do
    changes[at + 2], changes[at + 3] = fields[patch[at]][1], patch[at + 1]
  end
  return store(key, found, size + 2, pending, version, generation)
end

local function lease_base(key, entry, header)
  if is_leased(entry.lease, now, lease_us) then return {1, ''} end
  entry.lease = lease_of(token, now)
  call('HSET', key, '#', written(entry, fields))
  if not header then call('PEXPIRE', key, math.ceil(lease_us / 1000)) end
  return {1, token}
end

local function merge(key, patch, size, found)
  local entry, changed = read(found[1]), 2
  local version, generation, version_text, generation_text = stamp(found[1])
  for at = 1, size, 2 do
    local index, value, current = patch[at], patch[at + 1], found[at / 2 + 1.5]
    local field = fields[index]
    local rule, id = field[2], field[6]
    if rule == 'sum' then
      if not current and entry.holds == 'p' then return lease_base(key, read(found[1]), found[1]) end
      local delta = value
      value = add((current and current ~= '\0') and current or '0', delta)
      if field[4] ~= '' and (less(value, field[4], 'n') or less(field[5], value, 'n')) then return {2, index} end
      local held = entry.sums[id]
      entry.sums[id] = held and add(held, delta) or delta
    elseif rule == 'last' or pick(current, value, rule, field[3]) ~= current then
      entry.marks[id] = version_text
    else
      value = nil
    end
    if value then
      changes[changed + 1], changes[changed + 2] = field[1], value
      changed = changed + 2
    end
  end
  local pending = entry.pending
  entry.version, entry.generation, entry.pending = version_text, generation_text, pending + 1
  changes[2] = written(entry, fields)
  return store(key, found, changed, pending, version, generation)
end

local function apply(key, patch)
  local size = #patch
  look_at(patch, size)
  local found = call('HMGET', key, unpack(names))
  local header = found[1]
  if marks then
    if not header or #header == CLEAN then return overwrite(key, patch, size, found, 0) end
    local pending, stop = pending_of(header)
    if sub(header, stop) == marks then return overwrite(key, patch, size, found, pending) end
  end
  return merge(key, patch, size, found)
end

local every_name

local function delete(key)
  if not every_name then
    every_name = {}
    for index = 1, #fields do every_name[index] = fields[index][1] end
  end
  local found = call('HMGET', key, '#', unpack(every_name))
  local entry, version, generation, version_text, generation_text = read(found[1]), stamp(found[1])
  local pending = entry.pending
  entry.version, entry.generation, entry.pending = version_text, generation_text, pending + 1
  entry.holds, entry.delete = 'n', version_text
  for index = 1, #fields do
    if fields[index][2] ~= 'sum' then entry.marks[fields[index][6]] = version_text end
  end
  call('HDEL', key, unpack(every_name))
  changes[2] = written(entry, fields)
  return store(key, found, 2, pending, version, generation)
end

local replies = {}
for at = 1, #KEYS do
  local patch = patches[at]
  replies[at] = patch[1] and apply(KEYS[at], patch) or delete(KEYS[at])
end
return cmsgpack.pack({now, replies})
