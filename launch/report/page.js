/* The sections: what was measured, over time, and where it came from. */
const D = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), toc = document.getElementById("toc");
main.replaceChildren();

function section(id, short, title, text, ...kids) {
  const body = kids.flat().filter(Boolean);
  if (!body.length) return;
  main.append(h("section", { id }, h("h2", {}, title), text ? h("p", {}, text) : null, body));
  toc.append(h("a", { href: "#" + id }, short));
}
const grid = (...kids) => { const k = kids.flat().filter(Boolean); return k.length ? h("div", { class: k.length % 3 === 0 ? "grid three" : "grid" }, k) : null; };
const mean = a => { const v = a.filter(Number.isFinite); return v.length ? v.reduce((x, y) => x + y, 0) / v.length : NaN; };
const uniq = a => [...new Set(a)];

/* ---- who is who: one colour and mark per arm or stage, the same everywhere ---- */
const FIXED = { fixed: 0, published: 1, none: 2, sft: 4, control: 6, naive: 3, main: 0, direct: 6 };
const styles = new Map();
function style(name) {
  if (!styles.has(name)) {
    const taken = new Set([...styles.values()].map(s => s.i));
    let i = FIXED[name];
    if (i === undefined || taken.has(i)) i = [3, 7, 5, 4, 6, 2, 1, 0].find(k => !taken.has(k)) ?? styles.size % 8;
    styles.set(name, { i, color: `var(--c${i})`, mark: [0, 1, 2, 4, 3, 5, 4, 5][i] });
  }
  return styles.get(name);
}
const learned = new Set(D.runs.filter(r => r.metrics && r.metrics.rl).map(r => r.arm).concat(D.evals.filter(e => e.stage === "rl").map(e => e.arm)));
/* The supervised start is shared by the arms that go on with RL; an arm that ends there keeps its name. */
const label = e => e.stage === "sft" && (learned.has(e.arm) || e.arm === "main") ? "sft" : e.arm === "main" && e.stage && e.stage !== "rl" && e.stage !== "eval" ? e.stage : e.arm;

/* ---- evaluations: the last one of each arm, stage and seed; seeds pooled ---- */
function wilson(p, n) {
  if (!n) return [0, 1];
  const z = 1.96, d = 1 + z * z / n, c = p + z * z / (2 * n), w = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return [Math.max(0, (c - w) / d), Math.min(1, (c + w) / d)];
}
const plain = D.evals.filter(e => e.force === "free" && !e.tile_scale && !e.shuffled);
/* A later measurement replaces an earlier one category by category, so that one of a single category doesn't hide the rest. */
function latest(list) {
  const by = new Map();
  for (const e of list.slice().sort((x, y) => (x.step || 1e18) - (y.step || 1e18))) {
    const key = [label(e), e.seed, e.force, e.tile_scale].join("|"), m = by.get(key) || { ...e, rows: [] };
    const total = m.rows.find(r => r.category === "all"), own = e.rows.find(r => r.category === "all");
    const keepTotal = total && own && total.n > own.n;
    const fresh = e.rows.filter(r => !(keepTotal && r.category === "all"));
    m.rows = m.rows.filter(r => !fresh.some(f => f.category === r.category)).concat(fresh);
    by.set(key, m);
  }
  return [...by.values()];
}
function pool(list, category) {
  const rows = list.map(e => e.rows.find(r => r.category === category)).filter(Boolean);
  const n = rows.reduce((s, r) => s + r.n, 0);
  if (!n) return null;
  const by = (f, w = r => r.n) => { let a = 0, b = 0; for (const r of rows) if (Number.isFinite(r[f])) { a += r[f] * w(r); b += w(r); } return b ? a / b : NaN; };
  const v = by("accuracy"), [low, high] = wilson(v, n);
  return { v, low, high, n, seeds: rows.map(r => r.accuracy), tool: by("tool_rate"), calls: by("mean_calls"), fail: by("code_fail_rate", r => r.n * (r.mean_calls || 0)) };
}
const finals = latest(plain);
const names = uniq(finals.map(label)).sort((a, b) => rank(a) - rank(b));
function rank(n) { const i = ["warmup", "control", "sft", "none", "naive", "published", "fixed"].indexOf(n.split(",")[0]); return i < 0 ? 5.5 : i; }
const ofName = n => finals.filter(e => label(e) === n);
const order = c => (/easy/.test(c) ? 0 : /hard/.test(c) ? 1 : 2);
const categories = uniq(finals.flatMap(e => e.rows.map(r => r.category))).filter(c => c !== "all").sort((a, b) => order(a) - order(b));
const easy = categories.filter(c => /easy/.test(c)), hard = categories.filter(c => /hard/.test(c));
const core = easy.concat(hard).length ? easy.concat(hard) : categories;
/* Over all questions of an arm: calls and failed code turns, where a category with one call must not count like one with many. */
const whole = n => pool(ofName(n), "all") || { calls: over(n, core, "calls"), fail: over(n, core, "fail") };
const over = (n, cats, f) => mean(cats.map(c => { const q = pool(ofName(n), c); return q ? q[f] : NaN; }));
names.forEach(style);

/* ---- headline ---- */
const best = ["fixed", "main", "rl"].find(n => names.includes(n)) || names[names.length - 1], base = names.includes("sft") ? "sft" : names.find(n => n !== best);
function stat(value, text, small) { return h("div", { class: "stat" }, h("b", {}, value, small ? h("small", {}, "\u2002" + small) : null), h("span", {}, text)); }
const arrow = (f, cats) => base && base !== best && Number.isFinite(over(base, cats, f)) ? `was ${pct(over(base, cats, f))}` : "";
const stats = [];
if (best) {
  if (hard.length) stats.push(stat(pct(over(best, hard, "v")), `accuracy where the answer is too small to see (${best})`, arrow("v", hard)));
  if (easy.length) stats.push(stat(pct(over(best, easy, "v")), `accuracy where it is plain to see (${best})`, arrow("v", easy)));
  if (easy.length) stats.push(stat(pct(over(best, easy, "tool")), "of plain questions still answered with code", arrow("tool", easy)));
  if (hard.length) stats.push(stat(pct(over(best, hard, "tool")), "of hard questions answered with code", arrow("tool", hard)));
  stats.push(stat(pct(whole(best).fail), "of code turns fail", base && base !== best && Number.isFinite(whole(base).fail) ? `was ${pct(whole(base).fail)}` : ""));
}
if (Number.isFinite(D.max_logp_diff)) stats.push(stat(D.max_logp_diff === 0 ? "0" : num(D.max_logp_diff), "largest difference between rollout and trainer log-probs" + (D.max_logp_diff === 0 ? ": equal bits" : "")));
if (Number.isFinite(D.wall_s)) stats.push(stat(D.wall_s >= 100 ? (D.wall_s / 60).toFixed(1) : D.wall_s.toFixed(0), "wall-clock time, all of it", D.wall_s >= 100 ? "min" : "s"));
if (Number.isFinite(D.peak_rss_mib)) stats.push(stat((D.peak_rss_mib / 1024).toFixed(2), "peak memory of one process", "GiB"));
if (Number.isFinite(D.gflops_share_of_peak)) stats.push(stat(pct(D.gflops_share_of_peak), "of the machine's multiply-add peak during RL"));
document.getElementById("stats").append(...stats);
const seeds = uniq(D.runs.map(r => r.seed).concat(finals.map(e => e.seed)));
document.getElementById("lede").textContent =
  `A model that sees a small picture of a large scene and may write Python to look closer. ${D.runs.length} run${D.runs.length === 1 ? "" : "s"}, ${seeds.length} seed${seeds.length === 1 ? "" : "s"}, ` +
  `${D.evals.length} evaluation${D.evals.length === 1 ? "" : "s"}, ${D.trajs.length} conversations to look at.`;

/* ---- the key figure: detail size ---- */
function sweep() {
  const list = D.evals.filter(e => e.tile_scale && !e.shuffled);
  if (!list.length) return [];
  const scales = uniq(list.map(e => e.tile_scale)).sort((a, b) => a - b);
  const modes = [["free", "free choice", "var(--c0)", null, 0], ["direct", "forced to answer directly", "var(--c1)", "6 4", 2], ["tool", "forced to use code", "var(--c2)", "2 4", 1]];
  const points = (force, f) => scales.map(k => { const q = pool(list.filter(e => e.tile_scale === k && e.force === force), "all") || pool(list.filter(e => e.tile_scale === k && e.force === force), list[0].rows[0].category);
    return q ? (f === "tool" ? [k, q.tool] : [k, q.v, q.low, q.high]) : [k, NaN]; });
  const opts = { log2: scales[0] > 0, xlabel: "size of the detail (1 = lost in the view, 32 = fills it)", xname: "size ×", xticks: scales, ydomain: [0, 1], yfmt: pct, height: 300 };
  return grid(
    lineCard({ ...opts, title: "Accuracy", series: modes.map(([force, name, color, dash, mark]) => ({ name, color, dash, mark, whiskers: true, points: points(force, "v") })).filter(x => x.points.some(p => Number.isFinite(p[1]))) }),
    lineCard({ ...opts, title: "How often it chooses code", legend: true, series: [{ name: "free choice", color: "var(--c0)", mark: 0, points: points("free", "tool") }] }));
}
section("sizes", "Detail size", "Does it look closer exactly when it must?",
  "The same question at growing detail. Answering directly fails while the detail is lost in what the model sees; code finds it at any size. Left to choose, the model should follow the better of the two curves and drop the call once it can see.", sweep());

/* ---- table and categories ---- */
function heat(v, good) { return Number.isFinite(v) ? `background: rgba(var(${good ? "--pos" : "--neg"}), ${(0.04 + 0.22 * v).toFixed(3)})` : null; }
function table() {
  if (!names.length) return null;
  const head = h("tr", {}, h("th", {}, ""), categories.map(c => h("th", {}, c)), h("th", {}, "calls"), h("th", {}, "failed"));
  return h("div", { class: "card" }, h("p", { class: "note" }, "Accuracy; below it the share of answers that used code."), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, names.map(n => {
    const dot = h("span", { class: "dot" });
    dot.style.background = style(n).color;
    const all = whole(n);
    return h("tr", {}, h("td", {}, dot, n), categories.map(c => {
      const q = pool(ofName(n), c);
      return q ? h("td", { class: "heat", style: heat(q.v, true) }, pct(q.v), h("small", {}, "code " + pct(q.tool))) : h("td", {}, "–");
    }), h("td", {}, num(all.calls)), h("td", {}, pct(all.fail)));
  })))));
}
section("results", "Results", "Results", names.length ? `Final evaluation of every arm, ${seeds.length > 1 ? `${seeds.length} seeds pooled` : "one seed"}. Intervals are 95 % Wilson intervals over questions.` : "", table(),
  categories.length ? h("div", { style: "margin-top:16px" }, intervalCard({ title: "Accuracy by category", categories, xlabel: "accuracy, with 95 % interval",
    series: names.map(n => ({ name: n, ...style(n), at: Object.fromEntries(categories.map(c => [c, pool(ofName(n), c)])) })) })) : null);

const forced = latest(D.evals.filter(e => !e.tile_scale && !e.shuffled)), mixed = D.evals.filter(e => e.shuffled);
const cats = categories.length ? categories : uniq(D.evals.flatMap(e => e.rows.map(r => r.category)));
const having = list => cats.filter(c => list.some(e => e.rows.some(r => r.category === c)));
const at = list => Object.fromEntries(cats.map(c => [c, pool(list, c)]));
section("forced", "Direct or code", "Direct or with code", "The same model forced one way or the other: what a call is worth in each category. And a control: with the returned pictures exchanged between conversations, answers that truly depend on them must fall to chance.",
  grid(uniq(forced.filter(e => e.force !== "free").map(label)).map(n => {
    const of = f => forced.filter(e => e.force === f && label(e) === n);
    return intervalCard({ title: `${n}, forced`, categories: having(of("direct").concat(of("tool"))), series: [{ name: "free", color: "var(--c0)", mark: 0, at: at(of("free")) }, { name: "direct", color: "var(--c1)", mark: 2, at: at(of("direct")) }, { name: "code", color: "var(--c2)", mark: 1, at: at(of("tool")) }] });
  }), mixed.length ? intervalCard({ title: "Returned pictures exchanged", categories: having(mixed), series: [{ name: best, color: "var(--c0)", mark: 0, at: at(ofName(best)) }, { name: "exchanged", color: "var(--c1)", mark: 2, at: at(mixed) }] }) : null));

function leaks() {
  if (!D.leak || !D.leak.rows) return null;
  const rows = D.leak.rows.map(r => { const dot = h("td", {}, r.goal === null || r.goal === undefined ? "" : r.accuracy <= r.goal ? h("span", { class: "mark ok" }, "✓") : h("span", { class: "mark no" }, "✗"));
    return h("tr", {}, h("td", {}, r.category), h("td", { style: "text-align:left;white-space:normal" }, r.what), h("td", {}, `×${r.tile_scale}`), h("td", {}, pct(r.chance)), h("td", {}, pct(r.accuracy)), h("td", {}, pct(r.goal)), dot); });
  return h("div", { class: "card" }, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["category", "asked", "detail", "chance", "read", "at most", ""].map((t, i) => h("th", { style: i === 1 ? "text-align:left" : null }, t)))), h("tbody", {}, rows))));
}
section("leak", "Leak test", "Is the detail really gone?", D.leak ? `A perceptron trained on ${D.leak.n} views of each kind, to see what can be read from the small picture at all. Hard details must stay near chance.` : "", leaks());

/* ---- over time ---- */
const stagesOf = r => Object.keys(r.metrics || {});
const runsWith = stage => D.runs.filter(r => r.metrics && r.metrics[stage] && r.metrics[stage].step);
function column(r, stage, name) {
  const m = r.metrics[stage];
  return m[name] || m[name.replace("/", "_")] || null;
}
function smooth(v, w) {
  return v.map((_, i) => mean(v.slice(Math.max(0, i - w), i + w + 1)));
}
/* Mean over seeds of one metric per arm, smoothed; the band is the range over seeds. */
function curves(stage, name, opts = {}) {
  const out = [];
  for (const arm of uniq(runsWith(stage).map(r => r.arm))) {
    const list = runsWith(stage).filter(r => r.arm === arm).map(r => ({ step: r.metrics[stage].step, v: typeof name === "function" ? name(r) : column(r, stage, name) })).filter(x => x.v && x.v.some(Number.isFinite));
    if (!list.length) continue;
    const n = Math.max(...list.map(x => x.v.length)), w = opts.smooth ?? Math.max(0, Math.round(n / 50));
    const steps = list.find(x => x.v.length === n).step, sm = list.map(x => smooth(x.v, w));
    const every = Math.max(1, Math.ceil(n / 260));
    const points = steps.map((s, i) => { const v = sm.map(x => x[i]).filter(Number.isFinite); return list.length > 1 ? [s, mean(v), Math.min(...v), Math.max(...v)] : [s, mean(v)]; }).filter((_, i) => i % every === 0 || i === n - 1);
    const key = stage === "rl" ? arm : label({ arm, stage: "sft" });
    out.push({ name: opts.suffix ? `${key}, ${opts.suffix}` : key, color: style(key).color, dash: opts.dash, points, raw: list.length === 1 && w > 0 && n <= 400 ? steps.map((s, i) => [s, list[0].v[i]]) : null });
  }
  return out;
}
const curveCard = (title, stage, name, o = {}) => { const series = curves(stage, name, o); return series.length ? lineCard({ title, series, xlabel: `${stage === "rl" ? "RL" : stage} step`, xname: "step", legend: true, ...o }) : null; };
const perCategory = (r, cats, what) => {
  const cols = cats.map(c => column(r, "rl", `${what}/${c}`)).filter(Boolean);
  return cols.length ? cols[0].map((_, i) => mean(cols.map(v => v[i]))) : null;
};
const trainCats = uniq(runsWith("rl").flatMap(r => Object.keys(r.metrics.rl).filter(k => /^tool_rate[/_]/.test(k)).map(k => k.slice(10))));
const tEasy = trainCats.filter(c => /easy/.test(c)), tHard = trainCats.filter(c => /hard/.test(c));
section("learning", "Learning", "Learning", "Reinforcement learning from the same supervised start. Lines are means over seeds, lightly smoothed; bands span the seeds.", grid(
  curveCard("Reward", "rl", "reward"), curveCard("Accuracy on training prompts", "rl", "accuracy", { ydomain: [0, 1], yfmt: pct }),
  curveCard("Tool calls per question", "rl", "mean_calls", { floor: 0 }), curveCard("Entropy per token", "rl", "entropy", { floor: 0 })));
const pair = (cats, title, note) => { const s = curves("rl", r => perCategory(r, cats, "tool_rate")); return s.length && cats.length ? lineCard({ title, note, series: s, xlabel: "RL step", xname: "step", ydomain: [0, 1], yfmt: pct, legend: true }) : null; };
section("tools", "Tool use", "When it reaches for code", "Share of answers that used code while training. The balanced reward should push it down where a look is enough and up where it is not.", grid(
  pair(tEasy, "Plain questions", tEasy.join(", ")), pair(tHard, "Hard questions", tHard.join(", ")),
  curveCard("Failed code turns", "rl", "code_fail_rate", { floor: 0, yfmt: pct, note: "share of executed code that raised or returned nothing" }),
  finals.length ? scatterCard({ title: "Calls against accuracy", note: "mean over the plain and hard categories, final evaluation", xlabel: "calls per question",
    series: names.map(n => ({ name: n, ...style(n), points: [[over(n, core, "calls"), over(n, core, "v"), `${num(over(n, core, "calls"))} calls, ${pct(over(n, core, "v"))} right`]] })).filter(x => Number.isFinite(x.points[0][0])) }) : null));

function dcurve() {
  const r = D.runs.find(x => x.arm === best && x.metrics && x.metrics.rl) || runsWith("rl")[0];
  if (!r) return null;
  const d = mu => (1 + Math.tanh(r.gamma * (0.5 - mu))) / 2 - r.delta, xs = Array.from({ length: 101 }, (_, i) => i / 100);
  const at = (share) => trainCats.map(c => { const v = column(r, "rl", `accuracy/${c}`); if (!v) return null; const k = Math.max(1, Math.round(v.length / 10)); const mu = mean(share ? v.slice(-k) : v.slice(0, k)); return Number.isFinite(mu) ? [mu, d(mu)] : null; }).filter(Boolean).sort((a, b) => a[0] - b[0]);
  return grid(lineCard({ title: "d(μ): what a call is worth", note: `γ = ${r.gamma}, δ = ${r.delta}; positive rewards calls, negative charges for them`, legend: true, xlabel: "share of the group that is right, μ", xname: "μ =", xfmt: v => (+v).toFixed(2), ydomain: [-0.3, 1],
    series: [{ name: "d(μ)", color: "var(--c0)", points: xs.map(x => [x, d(x)]) }, { name: "categories, first tenth", color: "var(--c1)", width: 0.01, mark: 2, points: at(false) }, { name: "categories, last tenth", color: "var(--c2)", width: 0.01, mark: 0, points: at(true) }] }));
}
section("reward", "Reward", "The balanced reward", "When a group already answers well, a call costs; when it fails, a call pays.", dcurve());
section("before", "Machinery", "Before RL, and the machinery", "Vision warm-up and supervised fine-tuning, then what each RL step cost.", grid(
  curveCard("Warm-up loss", "warmup", "loss", { floor: 0 }), curveCard("Supervised loss", "sft", "loss", { floor: 0 }), curveCard("Gradient norm", "rl", "grad_norm", { floor: 0 }),
  curveCard("Seconds per step", "rl", "step_s", { floor: 0 }), curveCard("GFLOP/s", "rl", "gflops", { floor: 0 }), curveCard("Rollout minus trainer log-prob, largest", "rl", "max_logp_diff", { smooth: 0, ydomain: [-1, 1] })));
