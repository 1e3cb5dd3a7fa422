/* Conversations: filters, cards, and one conversation in full with its code, pictures, reward and tokens. */
const KEYWORDS = new Set("and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield None True False".split(" "));
function python(code) {
  const out = [], re = /(#[^\n]*)|("""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(\b\d[\w.]*)|([A-Za-z_]\w*)(?=(\s*\()?)/g;
  let at = 0;
  for (let m; (m = re.exec(code)); at = re.lastIndex) {
    out.push(code.slice(at, m.index));
    const cls = m[1] ? "m" : m[2] ? "s" : m[3] ? "n" : KEYWORDS.has(m[4]) ? "k" : m[5] ? "f" : null;
    out.push(cls ? h("span", { class: cls }, m[0]) : m[0]);
  }
  out.push(code.slice(at));
  return h("pre", {}, h("code", {}, out));
}
const picture = im => im && im.file && im.file[0] === "@" ? D.images[+im.file.slice(1)] : null;
const items = D.trajs.map(x => {
  const e = x.from.eval === undefined ? x.from : D.evals[x.from.eval], t = x.t, s = t.sample || {};
  const user = (s.messages || []).find(m => m.role === "user"), content = user ? user.content : "";
  const question = typeof content === "string" ? content : content.filter(p => p.type === "text").map(p => p.text).join(" ");
  const calls = (t.turns || []).filter(u => u.code !== undefined && u.code !== null);
  const how = [e.rollout_step ? `training, step ${e.rollout_step}` : "", e.force && e.force !== "free" ? "forced " + e.force : "", e.tile_scale ? `size ${e.tile_scale}` : "", e.shuffled ? "shuffled pictures" : ""].filter(Boolean).join(", ");
  return { x, t, e, question, calls, category: s.category || "all", truth: s.answer, ok: t.acc >= 0.5, used: calls.length > 0, name: (label(e) || "run") + (how ? ` (${how})` : ""),
    failed: calls.some(u => u.tool && !u.tool.ok), pics: (t.images || []).map(picture) };
});

const thinkOf = text => (text.match(/<think>([\s\S]*?)<\/think>/) || [])[1];
function messages(it) {
  const t = it.t, firstReturned = Math.min(...(t.turns || []).filter(u => u.n_image).map(u => u.image_from), (t.images || []).length);
  const figure = (im, i, n) => { const src = picture(im); return h("figure", {}, src ? h("img", { src, alt: n, loading: "lazy" }) : h("div", { class: "empty" }, "picture not kept"), h("figcaption", {}, `${n}, ${im.w}×${im.h} px seen as ${im.grid ? `${im.grid[2] * 14}×${im.grid[1] * 14}` : "?"}`)); };
  const out = [h("div", { class: "msg user" }, h("div", { class: "pics" }, (t.images || []).slice(0, firstReturned).map((im, i) => figure(im, i, "what the model sees"))), h("div", { class: "q" }, it.question))];
  for (const u of t.turns || []) {
    const think = thinkOf(u.text || ""), answer = ((u.text || "").match(/<answer>([\s\S]*?)<\/answer>/) || [])[1];
    const kids = [think !== undefined ? h("p", { class: "think" }, think) : null];
    if (u.code !== undefined && u.code !== null) kids.push(python(u.code));
    if (answer !== undefined) kids.push(h("div", { class: "answer" }, answer, " ", h("span", { class: "mark " + (it.ok ? "ok" : "no") }, it.ok ? "✓" : `✗ (${it.truth ?? "?"})`)));
    if (think === undefined && answer === undefined && !u.code) kids.push(h("pre", {}, u.text || ""));
    out.push(h("div", { class: "msg" }, h("div", { class: "who" }, "model", h("span", {}, `${u.end - u.start} tokens`)), kids));
    if (u.code === undefined || u.code === null) continue;
    const r = u.tool || {};
    out.push(h("div", { class: "msg tool" }, h("div", { class: "who" }, "sandbox", h("span", { class: "mark " + (r.ok ? "ok" : "no") }, r.verdict || "", r.error_type ? ` ${r.error_type}` : ""), Number.isFinite(r.wall_ms) ? h("span", {}, `${num(r.wall_ms)} ms, ${num(r.peak_mib)} MiB, tier ${r.tier || "?"}`) : null),
      u.tool_text ? h("pre", {}, u.tool_text) : null, u.n_image ? h("div", { class: "pics" }, (t.images || []).slice(u.image_from, u.image_from + u.n_image).map((im, i) => figure(im, i, "returned picture"))) : null));
  }
  return out;
}
function tokens(it) {
  const t = it.t, ids = t.ids || [], texts = it.x.tokens, box = h("div", { class: "chips" });
  if (!ids.length) return null;
  const hasAdv = t.adv && t.adv.some(v => v), top = Math.max(1e-9, ...(t.adv || [0]).map(Math.abs));
  const paint = mode => box.replaceChildren(...ids.map((id, i) => {
    const lp = t.logprobs ? t.logprobs[i] : null, on = t.mask && t.mask[i], adv = t.adv ? t.adv[i] : null;
    const text = texts ? texts[i] : String(id), pad = /pad\|>$/.test(text);
    if (pad && i && texts && texts[i - 1] === text) return "";
    const c = h("span", { class: on ? null : "off", onpointermove: ev => showTip(ev, h("b", {}, JSON.stringify(text)), h("div", {}, `id ${id}, position ${i}`), h("div", {}, on ? `log-prob ${num(lp)} (p = ${pct(Math.exp(lp))})` : "not sampled: no loss"), adv !== null && on ? h("div", {}, `advantage ${num(adv)}`) : ""), onpointerleave: hideTip },
      (pad ? text + "…" : text.replace(/\n/g, "↵\n")) || "␣");
    if (on && mode === "adv" && adv !== null) c.style.background = `rgba(var(${adv >= 0 ? "--pos" : "--neg"}), ${(0.5 * Math.abs(adv) / top).toFixed(2)})`;
    else if (on && lp !== null) c.style.background = `rgba(var(--chip), ${Math.min(0.6, 0.05 + 0.2 * -lp).toFixed(2)})`;
    return c;
  }));
  paint("logp");
  const tab = (mode, name) => h("button", { type: "button", "aria-pressed": String(mode === "logp"), onclick: ev => { paint(mode); for (const b of ev.target.parentNode.children) b.setAttribute("aria-pressed", String(b === ev.target)); } }, name);
  return h("div", { class: "msg" }, h("div", { class: "who" }, "tokens", h("span", {}, "grey: context, no loss; darker: more surprising")), hasAdv ? h("div", { class: "tabs" }, tab("logp", "log-prob"), tab("adv", "advantage")) : null, box);
}
const detail = document.getElementById("detail");
function openItem(list, i) {
  const it = list[i], t = it.t;
  const step = d => (i + d >= 0 && i + d < list.length ? openItem(list, i + d) : null);
  const parts = (t.parts || []).concat([{ name: "reward", value: t.reward }]).filter(p => Number.isFinite(p.value));
  detail.replaceChildren(h("div", { class: "dhead" }, h("div", {}, h("strong", {}, it.category), ` ${it.name}, seed ${it.e.seed ?? "?"}, ${t.outcome || ""}`), h("div", { class: "nav" },
    h("button", { type: "button", "aria-label": "previous", onclick: () => step(-1) }, "←"), h("button", { type: "button", "aria-label": "next", onclick: () => step(1) }, "→"), h("button", { type: "button", "aria-label": "close", onclick: () => detail.close() }, "✕"))),
    h("div", { class: "dbody" }, messages(it), h("div", { class: "msg" }, h("div", { class: "who" }, "reward"), h("div", { class: "parts" }, parts.map(p => h("div", {}, h("span", {}, p.name), num(p.value))), Number.isFinite(t.adv_seq) && t.adv_seq ? h("div", {}, h("span", {}, "advantage"), num(t.adv_seq)) : null)), tokens(it)));
  detail.onkeydown = ev => { if (ev.key === "ArrowLeft") step(-1); if (ev.key === "ArrowRight") step(1); };
  if (!detail.open) detail.showModal();
  detail.focus();
  detail.scrollTop = 0;
}
detail.addEventListener("click", ev => { if (ev.target === detail) detail.close(); });
detail.addEventListener("close", hideTip);

function gallery() {
  if (!items.length) return [];
  const box = h("div", { class: "gallery", id: "cards" }), count = h("span", { class: "count" }), more = h("button", { class: "more", type: "button", onclick: () => { room += 48; show(); } }, "Show more");
  let room = 24;
  const select = (id, all, values, test) => { const s = h("select", { id, "aria-label": all, onchange: () => { room = 24; show(); } }, h("option", { value: "" }, all), values.map(v => h("option", { value: v }, v))); return { s, test }; };
  const filters = [select("f-arm", "every arm", uniq(items.map(x => x.name)), (x, v) => x.name === v), select("f-category", "every category", uniq(items.map(x => x.category)).sort((a, b) => order(a) - order(b)), (x, v) => x.category === v),
    select("f-result", "right and wrong", ["right", "wrong"], (x, v) => x.ok === (v === "right")),
    select("f-tool", "with and without code", ["used code", "answered directly", "code failed"], (x, v) => v === "used code" ? x.used : v === "code failed" ? x.failed : !x.used)];
  function show() {
    const list = items.filter(x => filters.every(f => !f.s.value || f.test(x, f.s.value)));
    count.textContent = `${list.length} of ${items.length}`;
    box.replaceChildren(...list.slice(0, room).map((x, i) => h("button", { class: "item", type: "button", onclick: () => openItem(list, i) },
      h("span", { class: "thumbs" }, x.pics.filter(Boolean).slice(0, 2).map(src => h("img", { src, alt: "", loading: "lazy" }))),
      h("span", { class: "text" }, h("b", {}, x.question || x.category), h("span", { class: "mark " + (x.ok ? "ok" : "no") }, x.ok ? "✓ " : "✗ ", x.t.given_answer ?? x.t.outcome), ` ${x.category}`, h("br"), `${x.name}, ${x.calls.length} call${x.calls.length === 1 ? "" : "s"}`))));
    if (!list.length) box.append(h("p", { class: "empty" }, "No conversation fits all four filters."));
    more.hidden = list.length <= room;
  }
  show();
  return [h("div", { class: "filters" }, filters.map(f => f.s), count), box, more];
}
section("gallery", "Conversations", "Conversations", "Every picture here is what the model itself saw. Open one to read its code, what came back, its reward, and the log-prob of every token.", gallery());

section("runs", "Runs", "Runs", "", D.runs.length ? h("div", { class: "card" }, D.runs.map(r => h("details", {}, h("summary", {}, `${r.dir} · arm ${r.arm}, seed ${r.seed}, ${stagesOf(r).map(s => `${s} ${r.metrics[s].step ? r.metrics[s].step.length : 0} steps`).join(", ")}`), r.config ? h("pre", {}, r.config) : h("p", { class: "note" }, "no config.yaml")))) : null);
document.body.dataset.ready = "1";
