// Numbers, and formulas with numbers in them, as text: the words of `ravine.explain.typeset`.

const MINUS = 7, POWER = 8, ATOM = 9;
const SUPERSCRIPTS = Object.fromEntries([..."0123456789+−()"].map((c, i) => [c, [..."⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾"][i]]));

/** A number with at most six significant digits: `1e-8`, `−0.3`, `∞`. */
function number(value) {
  if (typeof value === "boolean") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return Object.is(value, -0) ? "−0" : String(value).replace("-", "−");
  const [digits, exponent] = rounded(Math.abs(value)).split("e").map((x, i) => (i ? Number(x) : x));
  const sign = value < 0 ? "−" : "";
  const bare = (x) => (x.includes(".") ? x.replace(/\.?0*$/, "") : x);
  if (exponent < -4 || exponent >= 6) return `${sign}${bare(digits)}e${exponent}`;
  const all = digits.replace(".", "");
  if (exponent < 0) return `${sign}${bare("0." + "0".repeat(-exponent - 1) + all)}`;
  return `${sign}${bare(all.slice(0, exponent + 1) + "." + all.slice(exponent + 1))}`;
}

/** Six digits and an exponent; what lies half-way between two goes to the even one, as in Python. */
function rounded(value) {
  const [exact] = value.toExponential(60).split("e");
  const nearest = value.toExponential(5);
  if (!/^50*$/.test(exact.slice(7))) return nearest;
  return Number(exact[6]) % 2 ? nearest : `${exact.slice(0, 7)}e${nearest.split("e")[1]}`;
}

/** How tightly a number holds together in a formula. */
const holds = (written) => (written.startsWith("−") ? MINUS : written.includes("e") && !/^[a-z]+$/.test(written) ? POWER : ATOM);

const fence = (written) => `(${written})`;

/** A formula with its numbers: those of the i-th element, where a value has several. */
function filled(template, values, i) {
  return template.map((part) => (typeof part === "string" ? part : FILLED[part[0]](part, values, i))).join("");
}

const FILLED = {
  n([, place, level, follows], values, i) {
    const written = shown(values[place], i);
    return holds(written) < level || (follows && written.startsWith("−")) ? fence(written) : written;
  },
  w: ([, place], values) => shown(values[place], null),
  m([, parts], values, i) {
    const written = filled(parts, values, i);
    return written.startsWith("−") ? fence(written) : written;
  },
  r([, parts], values, i) {
    const written = filled(parts, values, i);
    return /^[A-Za-z_]{2,}$/.test(written) ? fence(written) : written;
  },
  "^"([, level, parts], values, i) {
    const written = filled(parts, values, i), compact = written.replaceAll(" ", "");
    if ([...compact].every((c) => c in SUPERSCRIPTS)) return [...compact].map((c) => SUPERSCRIPTS[c]).join("");
    return `^${(level < 0 ? holds(written) : level) === ATOM ? written : fence(written)}`;
  },
};

/** One element of a value; all of it where it has not one for each element, or i is null. */
function shown(value, i) {
  if (!(value instanceof Matrix)) return Array.isArray(value) ? fence(value.join(", ")) : number(value);
  if (value.data.length === 1) return number(value.data[0]);
  if (i !== null && value.rows === 1) return number(value.data[i]);
  const rows = [];
  for (let r = 0; r < value.rows; r++) rows.push(value.data.slice(r * value.columns, (r + 1) * value.columns).map(number).join(", "));
  return rows.length > 1 ? `[${rows.join("; ")}]` : fence(rows[0]);
}
