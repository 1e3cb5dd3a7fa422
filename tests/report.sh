#!/bin/bash
# Renders a made-up demo with `codedance report` and loads the page in a headless browser: no script error, every section
# there, charts drawn, filters and the conversation view work, light, dark and at phone width.
# usage: report.sh BUILD_DIR [DIR to keep the page and screenshots in]
set -u
here=$(cd "$(dirname "$0")" && pwd)
exe=${1:?build directory}/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
python=/usr/bin/python3
[ -x $python ] || { echo "SKIP: no python3"; exit 77; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
keep=${2:-$work}
fail() { echo "not ok: $*"; exit 1; }

$python "$here/report_fake.py" "$work/demo" || fail "making the run directories"
"$exe" report "$work"/demo/seed*/* "$work/demo/notes.json" --eval "$work/demo/eval" --leak "$work/demo/leak.json" --out "$keep/report.html" --summary "$work/summary.json" \
    --wall 512.5 || fail "codedance report"
$python - "$work/summary.json" <<'PY' || fail "summary.json"
import json, sys
s = json.load(open(sys.argv[1]))
assert s["wall_s"] == 512.5 and s["peak_rss_mib"] == 812.5 and s["max_logp_diff"] == 0, s
assert abs(s["gflops_share_of_peak"] - 0.55) < 1e-9
r = [x for x in s["rows"] if x["stage"] == "sft" and x["force"] == "tool" and x["category"] == "rd_hard"]
assert len(r) == 1 and r[0]["accuracy"] == 0.97 and r[0]["tool_rate"] == 1 and r[0]["n"] == 300, r
sizes = sorted({x["tile_scale"] for x in s["rows"] if "tile_scale" in x})
assert sizes == [1, 2, 4, 8, 16, 32], sizes
assert len([x for x in s["rows"] if x["arm"] == "fixed" and x["stage"] == "rl" and x["category"] == "rd_easy" and "tile_scale" not in x]) == 2
names = [(x["arm"], x["stage"], x["seed"], x["category"]) for x in s["rows"]]
assert len(set(names)) == len(names), "rows of one name"
PY
grep -qE '(src|href)="https?:' "$keep/report.html" && fail "the page asks the network for something"
"$exe" report "$work" --out "$work/none.html" 2>/dev/null && fail "a directory without runs must be an error"
"$exe" report "$work/demo/seed0/fixed" --out /nonexistent/x.html 2>/dev/null && fail "an unwritable page must be an error"
mkdir -p "$work/broken" && echo '{"stage": "rl", "step": 0, "reward": oops}' >"$work/broken/metrics.jsonl"
"$exe" report "$work/broken" --out "$work/none.html" 2>&1 | grep -q 'metrics.jsonl:1:' || fail "a damaged metrics line must be named"

chrome=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { echo "SKIP: page written, but there is no chromium to load it"; exit 77; }
# The page with a trap for errors in front and a driver behind.
$python - "$keep/report.html" "$work/driven.html" <<'PY'
import sys
page = open(sys.argv[1]).read()
page = page.replace("<body>", "<body><script>window.errs=[];addEventListener('error',e=>errs.push(e.message));</script>", 1)
driver = """<script>setTimeout(() => {
  const out = {errors: errs, ready: document.body.dataset.ready, sections: [...document.querySelectorAll('main section')].map(s => s.id),
    table: [...document.querySelectorAll('#results tbody tr')].map(r => [...r.children].map(c => c.firstChild.nodeValue || c.textContent)), plots: document.querySelectorAll('svg.plot path').length, scroll: document.documentElement.scrollWidth - innerWidth, width: innerWidth};
  const n = () => document.querySelectorAll('#cards .item').length, count = () => document.querySelector('.count').textContent;
  const set = (id, v) => { const s = document.getElementById(id); s.value = v; s.dispatchEvent(new Event('change')); };
  out.all = count();
  set('f-category', 'rd_hard'); out.hard = count();
  set('f-result', 'wrong'); out.wrong = count();
  set('f-result', ''); set('f-tool', 'used code'); out.used = count(); set('f-tool', 'answered directly'); out.direct = count();
  set('f-tool', 'used code');
  document.querySelector('#cards .item').click();
  const d = document.getElementById('detail');
  out.open = d.open; out.code = !!d.querySelector('pre .f'); out.pics = d.querySelectorAll('.pics img').length; out.chips = d.querySelectorAll('.chips span').length;
  out.legend = (() => { const b = document.querySelector('.legend button'), s = b.closest('.card').querySelector('svg.plot'), before = s.childNodes.length; b.click(); return before - b.closest('.card').querySelector('svg.plot').childNodes.length; })();
  d.close(); set('f-tool', ''); set('f-category', '');
  set('f-arm', [...document.querySelectorAll('#f-arm option')].map(o => o.value).find(v => v.includes('training, step 50'))); out.training = count();
  document.querySelector('#cards .item').click(); out.advantage = [...d.querySelectorAll('.tabs button')].map(b => b.textContent).join(' ');
  document.body.innerHTML = ''; const pre = document.createElement('pre'); pre.id = 'result'; pre.textContent = JSON.stringify(out); document.body.append(pre);
}, 800);</script></body>"""
open(sys.argv[2], "w").write(page.replace("</body>", driver, 1))
PY
browser() { timeout 90 "$chrome" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" --virtual-time-budget=6000 "$@" 2>/dev/null; }
for size in 1280,900 500,900; do # the browser's narrowest window is 500
    browser --window-size=$size --dump-dom "file://$work/driven.html" >"$work/dom.html" || fail "the browser did not load the page"
    $python - "$work/dom.html" <<'PY' || fail "the page at $size"
import html, json, re, sys
m = re.search(r'<pre id="result">(.*?)</pre>', open(sys.argv[1]).read(), re.S)
assert m, "the driver did not finish"
r = json.loads(html.unescape(m.group(1)))
print("#", {k: v for k, v in r.items() if k not in ("sections", "table")})
first = lambda k: int(r[k].split()[0])
assert r["errors"] == [] and r["ready"] == "1"
for s in ("sizes", "results", "forced", "leak", "learning", "tools", "reward", "before", "gallery", "runs"):
    assert s in r["sections"], s
table = {row[0]: row[1:] for row in r["table"]}
assert set(table) == {"control", "sft", "none", "published", "fixed", "pair"}, list(table)
assert "–" not in table["fixed"], table["fixed"]  # a later measurement of one category hides no other
assert r["plots"] > 200 and r["scroll"] <= 0, "plots or sideways scrolling"
assert first("all") == 144 > first("hard") == 24 == first("used") + first("direct") and first("wrong") <= first("hard")
assert r["open"] and r["code"] and r["pics"] >= 2 and r["chips"] > 10 and r["legend"] > 0
assert first("training") == 12 and r["advantage"] == "log-prob advantage", r
PY
done
if [ "$keep" != "$work" ]; then
    browser --window-size=1280,6000 --screenshot="$keep/light.png" "file://$keep/report.html" >/dev/null
    browser --window-size=1280,6000 --force-dark-mode --blink-settings=preferredColorScheme=0 --screenshot="$keep/dark.png" "file://$keep/report.html" >/dev/null
    browser --window-size=500,9000 --screenshot="$keep/phone.png" "file://$keep/report.html" >/dev/null
fi
echo "ok: report"
