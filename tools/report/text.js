// Text: numbers, names, elements. What comes from the report's data is only ever set as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const methods = data.methods, runs = data.runs;

const superscript = text => [...text].map(c => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻").join("");
const minus = text => text.replace(/^-/, "−");

// At most `digits` significant digits; very small and very large ones as a power of ten.
function fixed(x, digits = 4) {
  if (!known(x)) return "–";
  if (x === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(x)));
  if (power < -4 || power > 6) {
    const mantissa = (x / 10 ** power).toFixed(Math.max(0, Math.min(digits, 2) - 1));
    return minus(mantissa) + " × 10" + superscript(String(power));
  }
  return minus(x.toFixed(Math.max(0, Math.min(8, digits - 1 - power))));
}

// 1.23M.
function count(x) {
  if (!known(x)) return "–";
  const units = ["", "k", "M", "B", "T"];
  let unit = 0;
  while (Math.abs(x) >= 999.5 && unit < 4) { x /= 1000; unit++; }
  return minus(unit === 0 && Number.isInteger(x) ? String(x) : x.toPrecision(3)) + units[unit];
}
// The same for the ticks of an axis: 2M.
const short = x => count(x).replace(/(\.\d*?)0+(?=\D*$)/, "$1").replace(/\.(?=\D*$)/, "");

const percent = (x, digits = 0) => known(x) ? minus((100 * x).toFixed(digits)) + "%" : "–";

// Mean and deviation with the same decimals: those given, or two digits of the deviation, or four of a mean that stands
// alone; a power of ten that both of them have comes third. A deviation of rounding errors is none.
function parts(stat, decimals) {
  if (!stat || !known(stat.mean)) return null;
  if (known(decimals)) return [minus(stat.mean.toFixed(decimals)), known(stat.sd) ? "± " + stat.sd.toFixed(decimals) : ""];
  if (!known(stat.sd) || stat.sd <= 1e-9 * Math.abs(stat.mean)) return [Number.isInteger(stat.mean) ? minus(String(stat.mean)) : fixed(stat.mean), known(stat.sd) ? "± 0" : ""];
  const power = Math.floor(Math.log10(Math.abs(stat.mean) || stat.sd));
  if (power < -4) {
    const scale = 10 ** power;
    return [(stat.mean / scale).toFixed(1), "± " + (stat.sd / scale).toFixed(1), " × 10" + superscript(String(power))];
  }
  return parts(stat, decimalsOf(stat.sd));
}

const decimalsOf = sd => Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(sd))));

// Decimals for a column of means: two digits of the median deviation. undefined where the means are of different orders.
function commonDecimals(stats) {
  const list = stats.filter(s => s && known(s.mean)), means = list.map(s => Math.abs(s.mean)).filter(x => x > 0);
  const sds = list.map(s => s.sd).filter(x => x > 0).sort((a, b) => a - b), sd = sds[sds.length >> 1];
  if (!(sd > 0) || !means.length || Math.max(...means) > 300 * Math.min(...means)) return undefined;
  const decimals = decimalsOf(sd);
  return 10 ** -decimals * 5 > Math.min(...means) ? undefined : decimals;
}

function plain(stat) {
  const [mean, sd, power] = parts(stat) || ["–", ""];
  return power ? `(${mean} ${sd})${power}` : `${mean} ${sd}`.trim();
}

const words = { simbal: "SimBal", lbl: "LBL", lossfree: "loss-free", none: "no balance", dense: "dense" };
function methodName(label) {
  const [base, ...rest] = label.split(", ");
  const name = base.split("+").map(part => {
    const [word, value] = part.split("=");
    return (words[word] || word) + (value ? " " + value : "");
  }).join(" + ");
  return [name, ...rest].join(", ");
}
methods.forEach(m => { m.name = methodName(m.label); });

// A method keeps its colour whatever else is in the report.
const usual = { simbal: 0, lbl: 1, lossfree: 2, "simbal+lbl": 3, none: 4, dense: 5, "simbal+lossfree": 7 };
const taken = new Set();
for (const known of [true, false])
  for (const m of methods) {
    if ((m.base in usual) !== known || m.hue !== undefined) continue;
    let hue = known && !taken.has(usual[m.base]) ? usual[m.base] : 0;
    while (taken.has(hue) && taken.size < 8) hue = (hue + 1) % 8;
    taken.add(hue);
    m.hue = hue;
  }
const dashes = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "3 3", "6 2 1 2"];
methods.forEach((m, i) => { m.index = i; m.color = `var(--c${m.hue})`; m.dash = dashes[i < 8 ? m.hue : i % 8]; });

const listed = items => items.length < 2 ? items.join("") : items.slice(0, -1).join(", ") + " and " + items[items.length - 1];
const many = x => Number(x.toPrecision(2)).toLocaleString("en");
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const numeral = n => ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][n] || String(n);
const range = ([a, b], format) => format(a) === format(b) ? format(a) : `${format(a)}–${format(b)}`;
