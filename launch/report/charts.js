"use strict";
/* Small SVG charts: lines, intervals and scatters with axes, a legend that switches series, and values under the pointer. */
const NS = "http://www.w3.org/2000/svg";
function make(ns, tag, attrs, kids) {
  const e = ns ? document.createElementNS(NS, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else e.setAttribute(k, v);
  }
  e.append(...kids.flat().filter(x => x !== null && x !== undefined));
  return e;
}
const h = (tag, attrs, ...kids) => make(false, tag, attrs, kids);
const g = (tag, attrs, ...kids) => make(true, tag, attrs, kids);

const tip = document.getElementById("tip");
function showTip(ev, ...content) {
  tip.replaceChildren(...content.flat());
  tip.classList.add("on");
  const r = tip.getBoundingClientRect(), pad = 14;
  let x = ev.clientX + pad, y = ev.clientY + pad;
  if (x + r.width > innerWidth - 8) x = ev.clientX - r.width - pad;
  if (y + r.height > innerHeight - 8) y = ev.clientY - r.height - pad;
  tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, y)}px)`;
}
function hideTip() { tip.classList.remove("on"); }
addEventListener("scroll", hideTip, { passive: true });

const pct = v => v === null || v === undefined || Number.isNaN(v) ? "–" : (100 * v).toFixed(v > 0.0005 && v < 0.0995 ? 1 : 0) + "\u00a0%";
function num(v) {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  const a = Math.abs(v);
  if (a !== 0 && (a < 0.001 || a >= 1e6)) return v.toExponential(1).replace("e+", "e");
  return a >= 100 ? v.toFixed(0) : a >= 10 ? v.toFixed(1) : a >= 1 ? v.toFixed(2) : v.toFixed(3);
}
function niceTicks(lo, hi, n) {
  const raw = (hi - lo) / Math.max(1, n), mag = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * mag).find(s => s >= raw) || raw;
  const out = [];
  for (let v = Math.ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}
function tickText(v, all) {
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : 1;
  if (Math.abs(v) >= 1e6 || (step < 1e-3 && v !== 0)) return v.toExponential(0).replace("e+", "e");
  const d = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return v.toFixed(step / 10 ** -d % 1 > 1e-6 ? d + 1 : d);
}

const MARKS = [
  (x, y, r) => `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0`,
  (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (x, y, r) => `M${x},${y - 1.25 * r}l${1.15 * r},${2.1 * r}h${-2.3 * r}z`,
  (x, y, r) => `M${x},${y - 1.3 * r}l${1.3 * r},${1.3 * r}l${-1.3 * r},${1.3 * r}l${-1.3 * r},${-1.3 * r}z`,
  (x, y, r) => `M${x},${y + 1.25 * r}l${1.15 * r},${-2.1 * r}h${-2.3 * r}z`,
  (x, y, r) => `M${x - 0.4 * r},${y - 1.2 * r}h${0.8 * r}v${0.8 * r}h${0.8 * r}v${0.8 * r}h${-0.8 * r}v${0.8 * r}h${-0.8 * r}v${-0.8 * r}h${-0.8 * r}v${-0.8 * r}h${0.8 * r}z`,
];
const markPath = (i, x, y, r) => MARKS[i % MARKS.length](x, y, r);

/* A card with title, note, legend and a plot that is drawn again when its width changes.
 * o: {title, note, series: [{name, color, dash, mark}], draw(svg, width, shown)} */
function plotCard(o) {
  const box = h("div", { class: "plot-box" }), hidden = new Set();
  const redraw = () => {
    const w = Math.floor(box.clientWidth);
    if (!w) return;
    const s = g("svg", { class: "plot", role: "img", "aria-label": o.title });
    box.replaceChildren(s);
    o.draw(s, w, o.series.filter(x => !hidden.has(x.name)));
  };
  const legend = h("div", { class: "legend" });
  if (o.series.length > 1 || o.legend) for (const x of o.series) {
    const b = h("button", { type: "button", "aria-pressed": "true", title: "show or hide", onclick: () => {
      hidden.has(x.name) ? hidden.delete(x.name) : hidden.add(x.name);
      b.setAttribute("aria-pressed", String(!hidden.has(x.name)));
      redraw();
    } }, g("svg", { width: 22, height: 12 },
      x.line === false ? null : g("path", { d: "M1,6H21", stroke: x.color, "stroke-width": 2.4, "stroke-dasharray": x.dash }),
      x.mark === undefined ? null : g("path", { d: markPath(x.mark, 11, 6, 4), fill: x.color })), x.name);
    legend.append(b);
  }
  new ResizeObserver(() => requestAnimationFrame(redraw)).observe(box);
  return h("div", { class: "card" }, h("h3", {}, o.title), o.note ? h("p", { class: "note" }, o.note) : null, legend, box);
}

function frame(s, w, hgt, o) {
  const left = o.left || 46, right = 14, top = 8, bottom = o.x.label ? 42 : 26;
  s.setAttribute("viewBox", `0 0 ${w} ${hgt}`);
  s.setAttribute("height", hgt);
  const iw = w - left - right, ih = hgt - top - bottom;
  const tx = o.x.log2 ? Math.log2 : v => v;
  const [x0, x1] = o.x.domain.map(tx), [y0, y1] = o.y.domain;
  const X = v => left + (tx(v) - x0) / (x1 - x0 || 1) * iw, Y = v => top + ih - (v - y0) / (y1 - y0 || 1) * ih;
  const xt = o.x.ticks || niceTicks(o.x.domain[0], o.x.domain[1], Math.max(2, Math.floor(iw / 80)));
  const yt = o.y.ticks || niceTicks(y0, y1, Math.max(2, Math.floor(ih / 44)));
  for (const v of yt) {
    s.append(g("path", { class: "grid-line", d: `M${left},${Y(v)}H${left + iw}` }),
      g("text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, o.y.fmt ? o.y.fmt(v) : tickText(v, yt)));
  }
  for (const v of xt) s.append(g("text", { x: X(v), y: top + ih + 18, "text-anchor": "middle" }, o.x.fmt ? o.x.fmt(v) : tickText(v, xt)));
  s.append(g("path", { class: "axis", d: `M${left},${top + ih}H${left + iw}` }));
  if (o.x.label) s.append(g("text", { class: "label", x: left + iw / 2, y: hgt - 4, "text-anchor": "middle" }, o.x.label));
  return { X, Y, left, top, iw, ih };
}

function range(values, pad, floor) {
  const v = values.filter(Number.isFinite);
  if (!v.length) return [0, 1];
  let lo = Math.min(...v), hi = Math.max(...v);
  if (floor !== undefined) lo = Math.min(lo, floor);
  if (lo === hi) { lo -= 0.5; hi += 0.5; }
  const p = (hi - lo) * (pad ?? 0.06);
  return [floor !== undefined && lo >= floor ? floor : lo - p, hi + p];
}

/* Lines over x. series[i].points: [x, y, low, high]; raw: the same unsmoothed, drawn faint. */
function lineCard(o) {
  return plotCard({ title: o.title, note: o.note, series: o.series, legend: o.legend, draw(s, w, shown) {
    const all = shown.flatMap(x => x.points), used = all.length ? all : o.series.flatMap(x => x.points);
    const f = frame(s, w, o.height || 230, {
      x: { domain: o.xdomain || [Math.min(...used.map(p => p[0])), Math.max(...used.map(p => p[0]))], label: o.xlabel, log2: o.log2, ticks: o.xticks, fmt: o.xfmt },
      y: { domain: o.ydomain || range(used.flatMap(p => [p[1], p[2], p[3]]).filter(v => v !== undefined), 0.06, o.floor), fmt: o.yfmt } });
    for (const x of shown) {
      const p = x.points.filter(q => Number.isFinite(q[1]));
      if (p.some(q => q[3] !== undefined && q[3] !== q[2]) && !x.whiskers) {
        const up = p.map(q => `${f.X(q[0])},${f.Y(q[3] ?? q[1])}`), down = p.map(q => `${f.X(q[0])},${f.Y(q[2] ?? q[1])}`).reverse();
        s.append(g("path", { d: "M" + up.concat(down).join("L") + "z", fill: x.color, opacity: 0.13 }));
      }
      if (x.raw) s.append(g("path", { d: "M" + x.raw.filter(q => Number.isFinite(q[1])).map(q => `${f.X(q[0]).toFixed(1)},${f.Y(q[1]).toFixed(1)}`).join("L"), fill: "none", stroke: x.color, opacity: 0.22 }));
      s.append(g("path", { d: "M" + p.map(q => `${f.X(q[0]).toFixed(1)},${f.Y(q[1]).toFixed(1)}`).join("L"), fill: "none", stroke: x.color, "stroke-width": x.width || 2.2, "stroke-dasharray": x.dash, "stroke-linejoin": "round", "stroke-linecap": "round" }));
      for (const q of p) {
        if (x.whiskers && q[3] !== undefined) s.append(g("path", { d: `M${f.X(q[0])},${f.Y(q[2])}V${f.Y(q[3])}`, stroke: x.color, "stroke-width": 1.6, opacity: 0.55 }));
        if (x.mark !== undefined) s.append(g("path", { d: markPath(x.mark, f.X(q[0]), f.Y(q[1]), 4), fill: x.color, stroke: "var(--card)", "stroke-width": 1.5 }));
      }
    }
    const cursor = g("path", { class: "axis", d: "", "stroke-dasharray": "3 3" });
    const dots = g("g", {});
    s.append(cursor, dots, g("rect", { x: f.left, y: f.top, width: f.iw, height: f.ih, fill: "transparent",
      onpointerleave: () => { hideTip(); cursor.setAttribute("d", ""); dots.replaceChildren(); },
      onpointermove: ev => {
        const px = (ev.clientX - s.getBoundingClientRect().left) * w / s.getBoundingClientRect().width;
        let best = null;
        for (const x of shown) for (const q of x.points) {
          const d = Math.abs(f.X(q[0]) - px);
          if (best === null || d < best.d) best = { d, x: q[0] };
        }
        if (!best) return;
        cursor.setAttribute("d", `M${f.X(best.x)},${f.top}V${f.top + f.ih}`);
        const rows = [h("b", {}, `${o.xname || o.xlabel || "x"} ${o.xfmt ? o.xfmt(best.x) : best.x}`)];
        dots.replaceChildren();
        for (const x of shown) {
          const q = x.points.find(p => p[0] === best.x);
          if (!q || !Number.isFinite(q[1])) continue;
          dots.append(g("circle", { cx: f.X(q[0]), cy: f.Y(q[1]), r: 4, fill: x.color, stroke: "var(--card)", "stroke-width": 1.5 }));
          const i = h("i"); i.style.background = x.color;
          rows.push(h("div", {}, i, `${x.name}  ${(o.yfmt || num)(q[1])}`, q[3] !== undefined && q[3] !== q[2] ? ` (${(o.yfmt || num)(q[2])} to ${(o.yfmt || num)(q[3])})` : ""));
        }
        showTip(ev, rows);
      } }));
  } });
}

/* One row per category, one dot with its interval per series. series[i].at: {category: {v, low, high, n, seeds: [v]}} */
function intervalCard(o) {
  return plotCard({ title: o.title, note: o.note, legend: true, series: o.series.map(x => ({ ...x, line: false })), draw(s, w, shown) {
    const gap = 13, rowH = Math.max(30, shown.length * gap + 14), left = w < 480 ? 84 : 112, hgt = o.categories.length * rowH + 52;
    const f = frame(s, w, hgt, { left, x: { domain: [0, 1], fmt: pct, label: o.xlabel, ticks: w < 480 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1] }, y: { domain: [0, 1], ticks: [] } });
    for (const v of [0, 0.25, 0.5, 0.75, 1]) s.append(g("path", { class: "grid-line", d: `M${f.X(v)},${f.top}V${f.top + f.ih}` }));
    o.categories.forEach((c, i) => {
      const mid = f.top + (i + 0.5) * f.ih / o.categories.length;
      if (i) s.append(g("path", { class: "grid-line", d: `M0,${mid - f.ih / o.categories.length / 2}H${f.left + f.iw}` }));
      s.append(g("text", { x: 0, y: mid + 4 }, c));
      shown.forEach((x, k) => {
        const q = x.at[c];
        if (!q) return;
        const y = mid + (k - (shown.length - 1) / 2) * gap;
        s.append(g("path", { d: `M${f.X(q.low)},${y}H${f.X(q.high)}`, stroke: x.color, "stroke-width": 3, opacity: 0.35, "stroke-linecap": "round" }));
        s.append(g("path", { d: markPath(x.mark || 0, f.X(q.v), y, 4.5), fill: x.color, stroke: "var(--card)", "stroke-width": 1.2,
          onpointermove: ev => showTip(ev, h("b", {}, `${x.name}, ${c}`), h("div", {}, `${pct(q.v)} (95 %: ${pct(q.low)} to ${pct(q.high)})`),
            h("div", {}, `n = ${q.n}` + (q.seeds && q.seeds.length > 1 ? `, seeds ${q.seeds.map(pct).join(", ")}` : ""))), onpointerleave: hideTip }));
      });
    });
  } });
}

/* Labelled points. series[i].points: [[x, y, label]] */
function scatterCard(o) {
  return plotCard({ title: o.title, note: o.note, legend: true, series: o.series.map(x => ({ ...x, line: false })), draw(s, w, shown) {
    const all = o.series.flatMap(x => x.points);
    const f = frame(s, w, o.height || 280, { x: { domain: range(all.map(p => p[0]), 0.12, 0), label: o.xlabel }, y: { domain: [0, 1], fmt: pct, ticks: [0, 0.25, 0.5, 0.75, 1] } });
    for (const x of shown) for (const q of x.points) {
      s.append(g("path", { d: markPath(x.mark || 0, f.X(q[0]), f.Y(q[1]), 6.5), fill: x.color, opacity: 0.9, stroke: "var(--card)", "stroke-width": 1.5,
        onpointermove: ev => showTip(ev, h("b", {}, x.name), h("div", {}, q[2])), onpointerleave: hideTip }));
    }
  } });
}
