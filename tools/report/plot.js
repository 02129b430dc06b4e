// Plots: scales, axes, lines with bands, points, the tooltip. Every plot is drawn anew when its width changes.

const state = { hidden: new Set() };
const drawings = [];
const redraw = () => drawings.forEach(draw => draw());
const shown = list => list.filter(m => !state.hidden.has(m.index));

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter(Boolean));
  return node;
}

// A box that draw(width) fills; draw returns an element.
function responsive(draw) {
  const box = el("div", { class: "plot" });
  let width = 0;
  const again = () => { if (width > 0) box.replaceChildren(draw(width)); };
  new ResizeObserver(entries => {
    const now = Math.round(entries[0].contentRect.width);
    if (now !== width) { width = now; requestAnimationFrame(again); } /* drawing here would resize while sizes are told */
  }).observe(box);
  drawings.push(again);
  return box;
}

const tip = document.getElementById("tip");
function showTip(x, y, title, rows) {
  const body = el("table", {}, ...rows.map(([color, name, value]) => el("tr", {},
    el("td", {}, color ? el("span", { class: "swatch", style: `background:${color}` }) : null, name), el("td", {}, value))));
  tip.replaceChildren(el("p", {}, title), body);
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 14;
  const left = x + gap + box.width > innerWidth - 6 ? x - gap - box.width : x + gap;
  tip.style.left = Math.max(6, left) + "px";
  tip.style.top = Math.max(6, Math.min(innerHeight - box.height - 6, y - box.height / 2)) + "px";
}
const hideTip = () => { tip.hidden = true; };
addEventListener("scroll", hideTip, { passive: true });
addEventListener("keydown", event => { if (event.key === "Escape") hideTip(); });

function linear([a, b], [from, to]) {
  const scale = x => from + (x - a) / (b - a || 1) * (to - from);
  scale.ticks = n => {
    const rough = (b - a) / Math.max(1, n), power = 10 ** Math.floor(Math.log10(rough || 1));
    const step = power * (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10);
    const ticks = [];
    for (let i = Math.ceil(a / step - 1e-9); i * step <= b + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
    return ticks;
  };
  return scale;
}

function logarithmic([a, b], [from, to]) {
  const inner = linear([Math.log10(a), Math.log10(b)], [from, to]);
  const scale = x => inner(Math.log10(Math.max(x, a)));
  scale.ticks = n => {
    const low = Math.ceil(Math.log10(a) - 1e-9), high = Math.floor(Math.log10(b) + 1e-9);
    const every = Math.max(1, Math.ceil((high - low + 1) / Math.max(2, n)));
    const ticks = [];
    for (let p = low; p <= high; p += every) ticks.push(10 ** p);
    if (ticks.length >= 2) return ticks;
    return [1, 2, 5].flatMap(m => [low - 1, low].map(p => m * 10 ** p)).filter(t => t >= a && t <= b).sort((x, y) => x - y);
  };
  return scale;
}

function tickText(values) {
  const largest = Math.max(...values.map(Math.abs));
  if (largest >= 10000) return values.map(short);
  if (largest < 1e-3 || values.some(v => v !== 0 && Math.abs(v) < 1e-4))
    return values.map(v => v === 0 ? "0" : (p => (m => (m === "1" ? "" : m + "·") + "10" + superscript(String(p)))(
      String(Number((v / 10 ** p).toPrecision(2)))))(Math.floor(Math.log10(Math.abs(v)) + 1e-9)));
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : largest;
  const decimals = Math.max(0, Math.min(6, ...[-Math.floor(Math.log10(step || 1) + 1e-9)]));
  return values.map(v => minus(values.length > 1 && values[1] / values[0] >= 1.9 && values[0] > 0 ? String(v) : v.toFixed(decimals)));
}

// Frame with axes. Returns the scales and the node to draw into.
function frame(width, height, options) {
  const { xs, ys, xTicks, xFormat, yLog, xLabel, right = 12, zero } = options;
  let [low, high] = ys;
  if (yLog) { low /= 1.25; high *= 1.25; } else {
    const pad = (high - low || Math.abs(high) || 1) * .06;
    low = zero ? 0 : low - pad; high += pad;
    if (ys[0] >= 0 && low < 0) low = 0;
  }
  const top = 8, bottom = height - 34;
  const y = (yLog ? logarithmic : linear)([low, high], [bottom, top]);
  const yTicks = y.ticks(height > 240 ? 6 : 4), yTexts = options.yFormat ? yTicks.map(options.yFormat) : tickText(yTicks);
  const left = Math.max(26, Math.max(...yTexts.map(t => t.length)) * 7.3 + 9);
  const x = (options.xLog ? logarithmic : linear)(xs, [left, width - right]);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": options.label, tabindex: 0 });
  yTicks.forEach((t, i) => node.append(
    svg("line", { x1: left, x2: width - right, y1: y(t), y2: y(t), stroke: "var(--grid)" }),
    svg("text", { x: left - 7, y: y(t) + 4, "text-anchor": "end" }, yTexts[i])));
  node.append(svg("line", { x1: left, x2: width - right, y1: bottom, y2: bottom, stroke: "var(--soft)" }));
  const ticks = xTicks || x.ticks(Math.max(2, Math.floor(width / 95))), texts = ticks.map(xFormat || (v => tickText(ticks)[ticks.indexOf(v)]));
  ticks.forEach((t, i) => node.append(
    svg("line", { x1: x(t), x2: x(t), y1: bottom, y2: bottom + 4, stroke: "var(--soft)" }),
    svg("text", { x: x(t), y: bottom + 16, "text-anchor": "middle" }, texts[i])));
  node.append(svg("text", { x: width - right, y: bottom + 31, "text-anchor": "end" }, xLabel));
  return { node, x, y, left, top, bottom, right: width - right };
}

// Pieces of a line between gaps, as path data.
function path(points) {
  let text = "", pen = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = false; continue; }
    text += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  }
  return text;
}

const extent = (values, fallback = [0, 1]) => {
  const finite = values.filter(known);
  return finite.length ? [Math.min(...finite), Math.max(...finite)] : fallback;
};

// SimBal is drawn last, over the others.
const onTop = series => [...series.filter(s => s.method.base !== "simbal"), ...series.filter(s => s.method.base === "simbal")];

// series: [{method, x, y, sd, seeds: [{x, y}]}]. sd and seeds may be missing. Options: xLabel, xFormat, yFormat, yLog, zero,
// from (least x shown), references: [{value, text}], markers, names (at the lines' ends), height, label, unit, title(x).
function linePlot(series, options) {
  return responsive(width => {
    const visible = onTop(series.filter(s => !state.hidden.has(s.method.index)));
    const from = options.from !== undefined ? options.from : options.xLog ? Number.MIN_VALUE : -Infinity;
    const within = (s, each) => s.x.flatMap((x, i) => x >= from && known(s.y[i]) ? each(s.y[i], s.sd && known(s.sd[i]) ? s.sd[i] : 0) : []);
    const floor = options.yLog ? v => v > 0 : () => true;
    const values = visible.flatMap(s => [...within(s, (y, sd) => [y - sd, y + sd]), ...(s.seeds || []).flatMap(one => within(one, y => [y]))]);
    const references = (options.references || []).filter(r => known(r.value));
    let ys = extent([...values, ...references.map(r => r.value)].filter(floor), options.yLog ? [.1, 1] : [0, 1]);
    if (options.yLog) ys = [Math.max(ys[0], ys[1] * 1e-9), ys[1]];
    const xs = extent(visible.flatMap(s => s.x.filter(x => x >= from)));
    const names = options.names && width > 520;
    const f = frame(width, options.height || (width > 560 ? 330 : 220), { ...options, xs: xs[0] === xs[1] ? [xs[0] - .5, xs[0] + .5] : xs, ys, right: names ? 142 : 12 });
    const clipId = `clip${Math.random().toString(36).slice(2)}`;
    f.node.append(svg("clipPath", { id: clipId }, svg("rect", { x: f.left, y: 0, width: Math.max(0, f.right - f.left + 3), height: f.bottom })));
    const area = svg("g", { "clip-path": `url(#${clipId})` });
    f.node.append(area);
    for (const r of references)
      f.node.append(svg("line", { x1: f.left, x2: f.right, y1: f.y(r.value), y2: f.y(r.value), stroke: r.color || "var(--soft)", "stroke-dasharray": "1 4", "stroke-linecap": "round", "stroke-width": 1.5 }),
        svg("text", { class: "halo", x: r.end === false ? f.left + 4 : f.right - 2, y: f.y(r.value) - 5, "text-anchor": r.end === false ? "start" : "end" }, r.text));
    const ends = [];
    for (const s of visible) {
      const group = svg("g", { "data-m": s.method.index, fill: "none", stroke: s.method.color, "stroke-linejoin": "round" });
      const at = s.x.map((x, i) => [f.x(x), known(s.y[i]) && !(options.xLog && x < from) ? f.y(s.y[i]) : NaN]);
      if (s.sd && s.sd.some(known)) {
        const usable = s.x.map((x, i) => i).filter(i => known(s.y[i]) && known(s.sd[i]) && !(options.xLog && s.x[i] < from));
        const edge = (list, sign) => list.map(i => `${f.x(s.x[i]).toFixed(1)} ${f.y(s.y[i] + sign * s.sd[i]).toFixed(1)}`);
        group.append(svg("path", { d: `M${[...edge(usable, 1), ...edge([...usable].reverse(), -1)].join("L")}Z`, fill: s.method.color, "fill-opacity": visible.length > 3 ? .08 : .14, stroke: "none" }));
      }
      for (const one of s.seeds || [])
        group.append(svg("path", { d: path(one.x.map((x, i) => [f.x(x), known(one.y[i]) && !(options.xLog && x < from) ? f.y(one.y[i]) : NaN])), "stroke-width": .7, "stroke-opacity": .45 }));
      group.append(svg("path", { d: path(at), "stroke-width": 2, "stroke-dasharray": s.method.dash || null }));
      const dots = at.filter(([x, y]) => Number.isFinite(y) && x >= f.left - 1);
      if (options.markers || dots.length === 1)
        group.append(...dots.map(([x, y]) => svg("circle", { cx: x, cy: y, r: 3, fill: s.method.color, stroke: "var(--paper)" })));
      area.append(group);
      const last = dots[dots.length - 1];
      if (names && last) ends.push({ s, y: last[1], at: last });
    }
    placeNames(f, ends);
    crosshair(f, visible, options, from);
    return f.node;
  });
}

// Names at the ends of lines, pushed apart where they would overlap.
function placeNames(f, ends) {
  ends.sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 15);
  const over = ends.length ? ends[ends.length - 1].y - f.bottom : 0;
  if (over > 0) for (let i = ends.length - 1, limit = f.bottom; i >= 0; i--, limit -= 15) ends[i].y = Math.min(ends[i].y, limit);
  for (const { s, y, at } of ends) {
    const name = s.method.name.length > 18 ? s.method.name.slice(0, 17) + "…" : s.method.name;
    f.node.append(svg("path", { d: `M${at[0] + 2} ${at[1]}L${f.right + 10} ${y}`, stroke: s.method.color, "stroke-width": .7, fill: "none", "data-m": s.method.index }),
      svg("text", { x: f.right + 14, y: y + 4, style: `fill:${s.method.color};font-weight:600`, "data-m": s.method.index }, name));
  }
}

// Values of all series at the x nearest to the pointer, or moved by the arrow keys.
function crosshair(f, series, options, from) {
  const xs = [...new Set(series.flatMap(s => s.x))].filter(x => x >= from).sort((a, b) => a - b);
  const rule = svg("line", { y1: f.top, y2: f.bottom, stroke: "var(--soft)", "stroke-width": .8, visibility: "hidden" });
  f.node.append(rule);
  let index = -1;
  const leave = () => { rule.setAttribute("visibility", "hidden"); hideTip(); };
  const show = clientY => {
    const x = xs[index], box = f.node.getBoundingClientRect(), px = f.x(x);
    rule.setAttribute("x1", px); rule.setAttribute("x2", px); rule.setAttribute("visibility", "visible");
    const rows = series.map(s => [s, s.x.indexOf(x)]).filter(([s, i]) => i >= 0 && known(s.y[i]))
      .sort(([a, i], [b, j]) => b.y[j] - a.y[i])
      .map(([s, i]) => [s.method.color, s.method.name, plain({ mean: s.y[i], sd: s.sd ? s.sd[i] : null })]);
    showTip(box.left + px, clientY === undefined ? box.top + f.bottom / 2 : clientY,
      options.title ? options.title(x) : `${options.xFormat ? options.xFormat(x) : x} ${options.xLabel}`, rows);
  };
  const move = event => {
    if (!xs.length) return;
    const px = event.clientX - f.node.getBoundingClientRect().left;
    index = xs.reduce((best, x, i) => Math.abs(f.x(x) - px) < Math.abs(f.x(xs[best]) - px) ? i : best, 0);
    show(event.clientY);
  };
  f.node.style.touchAction = "pan-y";
  f.node.addEventListener("pointermove", move);
  f.node.addEventListener("pointerdown", move);
  f.node.addEventListener("pointerleave", leave);
  f.node.addEventListener("blur", leave);
  f.node.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !xs.length) return;
    event.preventDefault();
    index = Math.max(0, Math.min(xs.length - 1, index < 0 ? (step > 0 ? 0 : xs.length - 1) : index + step));
    show();
  });
}
