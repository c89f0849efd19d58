-- Exact arithmetic on decimal text. Lua's numbers are doubles: 2^53 + 1 and 0.1 would be lost.
-- This file is put in front of the scripts that need it.

local function parse(text)
  local sign, whole, fraction = string.match(text, '^(-?)(%d+)%.?(%d*)$')
  return sign == '-', whole, fraction
end

-- Compare two unsigned digit strings of equal length, or by length when they differ.
local function compare_digits(a, b)
  a, b = string.gsub(a, '^0+', ''), string.gsub(b, '^0+', '')
  if #a ~= #b then return #a < #b and -1 or 1 end
  if a == b then return 0 end
  return a < b and -1 or 1
end

local function align(a_whole, a_fraction, b_whole, b_fraction)
  local scale = math.max(#a_fraction, #b_fraction)
  local a = a_whole .. a_fraction .. string.rep('0', scale - #a_fraction)
  local b = b_whole .. b_fraction .. string.rep('0', scale - #b_fraction)
  local width = math.max(#a, #b)
  return string.rep('0', width - #a) .. a, string.rep('0', width - #b) .. b, scale
end

-- a + b, or a - b when `minus`, for digit strings of equal length with a >= b.
local function combine_digits(a, b, minus)
  local digits, carry = {}, 0
  for at = #a, 1, -1 do
    local sum
    if minus then
      sum = string.byte(a, at) - string.byte(b, at) - carry
      carry = sum < 0 and 1 or 0
      if sum < 0 then sum = sum + 10 end
    else
      sum = string.byte(a, at) + string.byte(b, at) - 96 + carry
      carry = sum > 9 and 1 or 0
      if sum > 9 then sum = sum - 10 end
    end
    digits[at] = string.char(48 + sum)
  end
  return (carry == 1 and '1' or '') .. table.concat(digits)
end

local function format_decimal(negative, digits, scale)
  local whole = string.gsub(string.sub(digits, 1, #digits - scale), '^0+', '')
  local fraction = scale > 0 and '.' .. string.sub(digits, #digits - scale + 1) or ''
  local text = (whole == '' and '0' or whole) .. fraction
  if negative and string.find(text, '[1-9]') then text = '-' .. text end
  return text
end

-- The sum of two decimals, keeping the larger number of decimal places, as Postgres does.
local function add(a, b)
  if #a <= 15 and #b <= 15 and not string.find(a, '.', 1, true) and not string.find(b, '.', 1, true) then
    return string.format('%d', tonumber(a) + tonumber(b))
  end
  local a_negative, a_whole, a_fraction = parse(a)
  local b_negative, b_whole, b_fraction = parse(b)
  local x, y, scale = align(a_whole, a_fraction, b_whole, b_fraction)
  if a_negative == b_negative then return format_decimal(a_negative, combine_digits(x, y, false), scale) end
  if compare_digits(x, y) < 0 then
    return format_decimal(b_negative, combine_digits(y, x, true), scale)
  end
  return format_decimal(a_negative, combine_digits(x, y, true), scale)
end

local function negate(a)
  return string.sub(a, 1, 1) == '-' and string.sub(a, 2) or '-' .. a
end

-- Whether a < b, by the order of the column's kind.
local function less(a, b, order)
  if order == 'f' then return tonumber(a) < tonumber(b) end
  if order == 's' then return a < b end
  -- Of two whole numbers one may be long: what is lost of it does not carry it past a short one.
  if (#a <= 15 or #b <= 15) and not string.find(a, '.', 1, true) and not string.find(b, '.', 1, true) then
    return tonumber(a) < tonumber(b)
  end
  local a_negative, a_whole, a_fraction = parse(a)
  local b_negative, b_whole, b_fraction = parse(b)
  local x, y = align(a_whole, a_fraction, b_whole, b_fraction)
  local order_of = compare_digits(x, y)
  if a_negative ~= b_negative then
    local both_zero = not string.find(x .. y, '[1-9]')
    return a_negative and not both_zero
  end
  if a_negative then return order_of > 0 end
  return order_of < 0
end

-- The greater or the smaller of what is there and a candidate; nothing and NULL give way.
local function pick(current, candidate, merge, order)
  if not current or current == '\0' then return candidate end
  if merge == 'max' then return less(current, candidate, order) and candidate or current end
  return less(candidate, current, order) and candidate or current
end
