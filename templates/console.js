// The operators' console. Everything that is shown was said by the API, and is put into the page as text, never as markup.
"use strict";

const KEPT = { samples: 300, events: 300, lines: 400, mounts: 200 };
const PAGE = 50;
const $ = id => document.getElementById(id);
const api = (path, rest = "") => `/api/v1/mounts/${encodeURIComponent(path.slice(1))}${rest}`;

/** An element with properties and children; texts become text nodes. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("aria") || name === "role" || name === "scope") node.setAttribute(name.replace("aria", "aria-").toLowerCase(), value);
    else node[name] = value;
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

/** Sets a text only if it is another one, so that nobody's selection is lost each second. */
function say(node, text) {
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}

const number = value => value.toLocaleString("en");
const clock = at => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
function bits(bps) {
  if (bps === null || bps === undefined) return "–";
  for (const [unit, size] of [["Gbit/s", 1e9], ["Mbit/s", 1e6], ["kbit/s", 1e3]]) if (bps >= size) return `${(bps / size).toFixed(bps < 10 * size ? 1 : 0)} ${unit}`;
  return `${Math.round(bps)} bit/s`;
}
function bytes(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  return `${count} B`;
}
const span = seconds => (seconds === null || seconds === undefined ? "–" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
function since(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60 % 60)} min`;
}

// Charts: a line for each series over the last five minutes.

const SVG = "http:" + "//www.w3.org/2000/svg";
function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
function line(values, top) {
  let path = "", pen = "M";
  values.forEach((value, i) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${i + KEPT.samples - values.length},${(100 - 96 * value / top).toFixed(1)}`;
    pen = "L";
  });
  return path;
}
class Chart {
  /** `series`: [name, how a value is written]. */
  constructor(title, write, names) {
    this.write = write;
    this.values = names.map(() => el("b", {}, "–"));
    this.top = el("span", { className: "soft" });
    this.paths = names.map((_, i) => svg("path", { class: `s${i}` }));
    const picture = svg("svg", { viewBox: `0 0 ${KEPT.samples} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}, the last five minutes` });
    picture.append(svg("path", { class: "axis", d: `M0,100H${KEPT.samples}` }), ...this.paths);
    const keys = names.map((name, i) => el("span", { className: names.length > 1 ? `key s${i}` : "" }, name ? `${name} ` : "", this.values[i]));
    this.node = el("figure", { className: "card chart" }, el("figcaption", {}, el("b", {}, title), ...keys, this.top), picture);
  }
  draw(all) {
    const top = Math.max(1e-9, ...all.flat().filter(value => value !== null));
    all.forEach((values, i) => {
      this.paths[i].setAttribute("d", line(values, top));
      say(this.values[i], this.write(values.length ? values[values.length - 1] : null));
    });
    say(this.top, `up to ${this.write(top < 1e-8 ? 0 : top)}`);
  }
}

// What is known.

const series = new Map(); // by path; "" is the server
const mounts = new Map(); // what was said of each mount last
const lines = { log: [] };
const seen = { ids: new Set(), line: { n: 0, at: 0 } };
let selected = null, advice = [], stats = null, origin = null;

function sample(path, values) {
  const kept = series.get(path) ?? {};
  for (const [name, value] of Object.entries(values)) {
    kept[name] = [...(kept[name] ?? []), value].slice(-KEPT.samples);
  }
  series.set(path, kept);
}

// The stream of events.

let stream = null, again = null;
function connect() {
  stream?.close();
  clearTimeout(again);
  stream = new EventSource(`/api/v1/events?log=${encodeURIComponent($("log-level").value)}`);
  stream.onopen = () => linked("live", "good");
  stream.onerror = () => {
    linked("reconnecting", "bad");
    // A refusal ends it for good, and so does a restart of the server at a bad moment: it is tried again.
    if (stream.readyState === EventSource.CLOSED) again = setTimeout(connect, 3000);
  };
  stream.addEventListener("stats", message => tick(JSON.parse(message.data)));
  stream.addEventListener("health", message => { advice = JSON.parse(message.data); showAdvice(); });
  stream.addEventListener("log", message => logged(JSON.parse(message.data)));
  stream.addEventListener("late", () => linked("catching up", "warning"));
  for (const kind of ["mount_added", "mount_removed", "source_up", "source_down", "source_restart", "source_takeover", "title", "listeners", "recoveries", "refused", "reload", "certificate", "drain", "advice", "advice_over"]) {
    stream.addEventListener(kind, happened);
  }
}
function linked(word, kind) {
  $("link").className = `pill ${kind}`;
  say($("link"), word);
}

function tick(now) {
  stats = now;
  say($("total-listeners"), now.listeners_max ? `${number(now.listeners)} / ${number(now.listeners_max)}` : number(now.listeners));
  say($("total-out"), bits(now.out_bps));
  if (now.draining) linked("draining", "warning");
  else if ($("link").textContent !== "live") linked("live", "good");
  sample("", { listeners: now.listeners, out: now.out_bps, in: now.in_bps, busy: Math.max(0, ...now.shards.map(shard => shard.busy)) });
  const paths = new Set();
  for (const mount of now.mounts) {
    paths.add(mount.path);
    mounts.set(mount.path, mount);
    sample(mount.path, { listeners: mount.listeners, in: mount.in_bps, out: mount.out_bps, p50: mount.lag_p50, p99: mount.lag_p99, max: mount.lag_max });
  }
  for (const path of [...mounts.keys()]) if (!paths.has(path)) { mounts.delete(path); series.delete(path); }
  if (document.hidden) return;
  showMounts();
  showMount();
  showServer();
}

// Health.

function showAdvice() {
  const list = $("advice");
  const nodes = advice.map(one => el("li", { className: `card advice ${one.severity}`, data: { about: one.about } },
    el("span", { className: `pill ${one.severity}` }, one.severity), " ",
    one.mount ? el("a", { href: `#mount=${encodeURIComponent(one.mount)}` }, one.mount) : el("b", {}, one.subject ?? "the server"),
    el("p", {}, one.says), el("p", { className: "soft" }, one.remedy)));
  list.replaceChildren(...(nodes.length ? nodes : [el("li", { className: "card", id: "all-well" }, el("span", { className: "pill good" }, "ok"), " All is well.")]));
  $("health-count").hidden = !advice.length;
  say($("health-count"), advice.length);
  document.title = advice.length ? `(${advice.length}) flumen console` : "flumen console";
}

// Mounts.

const cards = new Map();
function stateOf(mount) {
  const troubles = advice.filter(one => one.mount === mount.path).map(one => one.severity);
  if (mount.lacking || troubles.includes("critical")) return [mount.up ? "on air" : "no source", "critical"];
  if (troubles.includes("warning")) return [mount.up ? "on air" : "waiting", "warning"];
  return mount.up ? ["on air", "good"] : ["waiting", ""];
}
function card(path) {
  const part = name => el("span", { className: name });
  const made = { state: part("pill"), title: part("title soft"), facts: part("soft"), path: svg("path", {}) };
  const picture = svg("svg", { class: "spark", viewBox: `0 0 ${KEPT.samples} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(made.path);
  made.node = el("button", { type: "button", className: "card mount", data: { path }, onclick: () => { location.hash = `mount=${encodeURIComponent(path)}`; } },
    el("span", { className: "top" }, el("b", {}, path), made.state), made.title, made.facts, picture);
  return made;
}
function showMounts() {
  const wanted = $("mount-filter").value.trim().toLowerCase();
  const fits = mount => [mount.path, mount.title, mount.content_type ?? "", mount.filler].some(text => text.toLowerCase().includes(wanted));
  const found = [...mounts.values()].filter(fits);
  const shown = found.slice(0, KEPT.mounts);
  for (const [path, made] of cards) if (!shown.some(mount => mount.path === path)) { made.node.remove(); cards.delete(path); }
  shown.forEach((mount, i) => {
    if (!cards.has(mount.path)) cards.set(mount.path, card(mount.path));
    const made = cards.get(mount.path), [word, kind] = stateOf(mount);
    made.state.className = `pill ${kind}`;
    say(made.state, word);
    say(made.title, mount.title || (mount.up ? "nobody has said what is playing" : mount.fault ?? "nothing at the moment"));
    const most = mount.listeners_max ? ` of ${number(mount.listeners_max)}` : "";
    say(made.facts, `${number(mount.listeners)}${most} listening · ${mount.content_type ?? "no format"} · ${bits(mount.bitrate_bps)} · lag ${span(mount.lag_max)} · ${mount.restarts} restarts`);
    made.node.setAttribute("aria-pressed", String(mount.path === selected));
    const kept = series.get(mount.path)?.listeners ?? [];
    made.path.setAttribute("d", line(kept, Math.max(1, ...kept)));
    const list = $("mount-list");
    if (list.children[i] !== made.node) list.insertBefore(made.node, list.children[i] ?? null);
  });
  const hidden = found.length - shown.length + (stats?.unlisted ?? 0);
  $("mount-more").hidden = hidden === 0 && found.length > 0;
  say($("mount-more"), found.length ? `${hidden} more: narrow the search` : mounts.size ? "no mount fits" : "there are no mounts");
}

// One mount.

let charts = null;
function select() {
  const match = location.hash.match(/^#mount=(.+)$/);
  const path = match ? decodeURIComponent(match[1]) : null;
  if (!match && location.hash && selected) return; // a link to a section leaves it open
  if (path === selected) return;
  selected = path;
  listeners.all = []; listeners.page = 0;
  $("mount").hidden = path === null;
  if (path === null) return;
  say($("mount-title"), path);
  $("mount-hear").href = path;
  for (const id of ["source-result", "metadata-result", "listener-result"]) told($(id), "");
  const embed = new URL(`/player?mount=${encodeURIComponent(path)}`, location.href).href;
  say($("embed"), `<iframe src="${embed}" width="360" height="150" title="${path.slice(1)}" allow="autoplay"></iframe>`);
  charts = [new Chart("Listeners", value => (value === null ? "–" : number(Math.round(value))), [""]), new Chart("Rate", bits, ["in", "out"]), new Chart("Lag", span, ["50 %", "99 %", "slowest"])];
  $("mount-charts").replaceChildren(...charts.map(chart => chart.node));
  for (const field of ["artist", "title", "url"]) $("metadata").elements[field].value = "";
  fetch(api(path)).then(answer => (answer.ok ? answer.json() : null)).then(mount => {
    if (!mount || path !== selected) return;
    for (const field of ["artist", "title"]) $("metadata").elements[field].value = mount[field] ?? "";
    if (mount.name) say($("mount-title"), `${mount.name} (${path})`);
  }).catch(() => {});
  showMount();
  showListeners();
  refreshListeners();
  $("mount").scrollIntoView();
  $("mount-title").focus({ preventScroll: true });
}
function showMount() {
  const mount = selected === null ? null : mounts.get(selected);
  if (!mount) {
    if (selected !== null && stats) { $("mount-state").className = "pill bad"; say($("mount-state"), "there is no such mount now"); }
    return;
  }
  const [word, kind] = stateOf(mount);
  $("mount-state").className = `pill ${kind}`;
  say($("mount-state"), word);
  say($("mount-facts"), `${mount.filler.replaceAll("_", " ")} · ${mount.content_type ?? "no format"} · ${bits(mount.bitrate_bps)} · history ${span(mount.ring_seconds)} · ${mount.restarts} restarts${mount.title ? ` · ${mount.title}` : ""}`);
  $("mount-fault").hidden = mount.up || !mount.fault;
  say($("mount-fault"), mount.fault ?? "");
  const ours = mount.filler === "pipeline";
  for (const button of document.querySelectorAll("[data-act]")) button.disabled = button.dataset.act === "kill" ? !mount.up : !ours;
  const kept = series.get(selected) ?? {};
  charts[0].draw([kept.listeners ?? []]);
  charts[1].draw([kept.in ?? [], kept.out ?? []]);
  charts[2].draw([kept.p50 ?? [], kept.p99 ?? [], kept.max ?? []]);
  showDepartures(mount);
}
function showDepartures(mount) {
  const counts = Object.entries(mount.departures).sort((a, b) => b[1] - a[1]);
  const key = JSON.stringify(counts);
  if ($("departures").dataset.key === key) return;
  $("departures").dataset.key = key;
  const most = Math.max(1, ...counts.map(([, count]) => count));
  const rows = counts.flatMap(([why, count]) => [el("dt", {}, why), el("dd", {}, el("meter", { max: most, value: count, ariaHidden: "true" }), number(count))]);
  $("departures").replaceChildren(...(rows.length ? rows : [el("dt", {}, "nobody has left")]));
}

// Orders.

function told(node, text, bad = false) {
  node.classList.toggle("bad", bad);
  say(node, text);
}
/** Asks the API; its answer, or an error in its words. */
async function order(method, path) {
  const answer = await fetch(path, { method, cache: "no-store" });
  const text = await answer.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* a refusal in plain words */ }
  if (!answer.ok) throw Object.assign(new Error(body?.error ?? (text.trim() || `the server answered ${answer.status}`)), { status: answer.status });
  return body;
}
async function attempt(node, words, act) {
  told(node, "…");
  try { told(node, words(await act())); return true; } catch (error) { told(node, error.message, true); return false; }
}
/** The question before: the next one waits until it is heard that it was closed, or the answer to one would be taken for both. */
let asked = Promise.resolve();
/** Asks whoever sits here; their choice, or null. */
async function ask(title, text, choices = null) {
  await asked;
  say($("ask-title"), title);
  say($("ask-text"), text);
  $("ask-choice-label").hidden = choices === null;
  $("ask-choice").replaceChildren(...(choices ?? []).map(choice => el("option", {}, choice)));
  $("ask-yes").disabled = choices !== null && !choices.length;
  const dialog = $("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  asked = new Promise(done => dialog.addEventListener("close", () => done(dialog.returnValue === "yes" ? (choices ? $("ask-choice").value : true) : null), { once: true }));
  return asked;
}
/** Where the listeners of the selected mount can go on: asked for anew, for a stale list would offer what is gone. */
async function others() {
  const all = await order("GET", "/api/v1/mounts"), here = all.find(mount => mount.path === selected);
  return all.filter(mount => mount.path !== selected && mount.source.up && mount.content_type === here?.content_type).map(mount => mount.path);
}
/** Asks where to; null: nowhere. */
async function destination(title, text) {
  try {
    const choices = await others();
    return await ask(title, choices.length ? text : "No other mount on air has the same format.", choices);
  } catch (error) {
    told($("listener-result"), error.message, true);
    return null;
  }
}

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", async () => {
    const act = button.dataset.act, path = selected;
    if (act === "stop" && !await ask("Stop the source?", `${path} has nothing to hear until it is started again.`)) return;
    if (act === "kill" && !await ask("Disconnect the source?", `An encoder may come back by itself; a pipeline or relay begins anew.`)) return;
    const [method, rest] = act === "kill" ? ["DELETE", "/source"] : ["POST", `/source/${act}`];
    attempt($("source-result"), () => `${act}: done`, () => order(method, api(path, rest)));
  });
}
$("metadata").addEventListener("submit", event => {
  event.preventDefault();
  const query = new URLSearchParams([...new FormData($("metadata"))].filter(([, value]) => value.trim()));
  attempt($("metadata-result"), () => "set", () => order("POST", api(selected, `/metadata?${query}`)));
});
$("reload").addEventListener("click", async () => {
  const result = $("reload-result");
  result.hidden = false;
  await attempt(result, reloaded, () => order("POST", "/api/v1/reload"));
});
function reloaded(done) {
  const words = [["opened mount", done.added], ["closed mount", done.removed], ["changed mount", done.changed.map(change => `${change.mount}: ${change.keys.join(", ")}`)],
    ["source anew", done.sources], ["listens on", done.opened], ["listens no more", done.closed], ["changed", done.settings], ["needs restart", done.needs_restart], ["warning", done.warnings]];
  return words.flatMap(([what, values]) => values.map(value => `${what.padEnd(16)}${value}`)).join("\n") || "nothing has changed";
}
$("drain").addEventListener("click", async () => {
  if (!await ask("Drain the server?", "Nobody is let in any more, and everybody who listens is sent what is queued and leaves. Only a new start undoes it.")) return;
  $("reload-result").hidden = false;
  attempt($("reload-result"), done => `draining: ${done.listeners} listeners leave`, () => order("POST", "/api/v1/drain"));
});

// Listeners.

const COLUMNS = [
  ["Number", one => one.id, one => one.id], ["Address", one => one.user ? `${one.peer} (${one.user})` : one.peer, one => one.peer],
  ["Agent", one => one.user_agent || "–", one => one.user_agent], ["Connected", one => since(one.joined_at), one => -Date.parse(one.joined_at)],
  ["Lag", one => span(one.lag.seconds), one => one.lag.seconds], ["Rate", one => bits(one.rate_bps), one => one.rate_bps], ["Sent", one => bytes(one.bytes_sent), one => one.bytes_sent],
  ["Lost chunks", one => number(one.dropped.chunks), one => one.dropped.chunks], ["Phase", one => one.phase, one => one.phase],
];
const listeners = { all: [], page: 0, column: 4, down: true, busy: false };

$("listener-head").append(...COLUMNS.map(([name], i) => el("th", { scope: "col" }, el("button", { type: "button", onclick: () => {
  listeners.down = listeners.column === i ? !listeners.down : true;
  listeners.column = i;
  listeners.page = 0;
  showListeners();
} }, name))), el("th", { scope: "col" }, "Do"));

async function refreshListeners() {
  const path = selected;
  if (path === null || listeners.busy) return;
  listeners.busy = true;
  try {
    const all = await order("GET", api(path, "/listeners"));
    if (path === selected) { listeners.all = all; showListeners(); }
  } catch (error) {
    if (path === selected) told($("listener-result"), error.message, true);
  } finally {
    listeners.busy = false;
  }
}
function showListeners() {
  const wanted = $("listener-filter").value.trim().toLowerCase();
  const fits = one => !wanted || [one.peer, one.user_agent, one.user ?? "", String(one.id)].some(text => text.toLowerCase().includes(wanted));
  const [, , key] = COLUMNS[listeners.column], sign = listeners.down ? -1 : 1;
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const found = listeners.all.filter(fits).sort((a, b) => sign * order(key(a), key(b)) || a.id - b.id);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  listeners.page = Math.min(listeners.page, pages - 1);
  document.querySelectorAll("#listener-head th").forEach((th, i) => {
    if (i === listeners.column) th.setAttribute("aria-sort", listeners.down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
  });
  const held = document.activeElement?.closest?.("#listener-rows button")?.dataset.key; // whoever is about to press stays there
  $("listener-rows").replaceChildren(...found.slice(listeners.page * PAGE, (listeners.page + 1) * PAGE).map(one => el("tr", { className: one.lag.seconds > 5 || one.dropped.times > 0 ? "slow" : "", data: { id: one.id } },
    ...COLUMNS.map(([name, shown]) => el("td", { data: { label: name } }, String(shown(one)))),
    el("td", { className: "acts" },
      el("button", { type: "button", className: "small grave", data: { key: `kick-${one.id}` }, onclick: () => kick(one), ariaLabel: `Remove listener ${one.id}` }, "Kick"), " ",
      el("button", { type: "button", className: "small", data: { key: `move-${one.id}` }, onclick: () => move(one), ariaLabel: `Move listener ${one.id}` }, "Move"),
      $("bans").hidden || !address(one.peer) ? "" : el("button", { type: "button", className: "small grave", data: { key: `ban-${one.id}` }, onclick: () => propose(one), ariaLabel: `Ban the address of listener ${one.id}` }, "Ban …")))));
  if (held) document.querySelector(`#listener-rows button[data-key="${held}"]`)?.focus();
  say($("page-now"), `${number(found.length)} ${found.length === 1 ? "listener" : "listeners"}, page ${listeners.page + 1} of ${pages}`);
  $("page-back").disabled = listeners.page === 0;
  $("page-on").disabled = listeners.page + 1 >= pages;
}
/** The address of a peer without its port; empty where there is none. */
const address = peer => peer.match(/^\[(.+)\]:\d+$/)?.[1] ?? peer.match(/^([0-9.]+):\d+$/)?.[1] ?? "";
/** Fills in the form: whoever bans looks at it once more. */
function propose(one) {
  $("ban").elements.address.value = address(one.peer);
  $("ban").scrollIntoView();
  $("ban").elements.reason.focus();
}
async function kick(one) {
  const path = selected;
  if (!await ask("Remove the listener?", `${one.peer} (${one.user_agent || "no agent"}) leaves at once, and may come back.`)) return;
  await attempt($("listener-result"), () => `listener ${one.id} removed`, () => order("DELETE", api(path, `/listeners/${one.id}`)));
  refreshListeners();
}
async function move(one) {
  const path = selected, to = await destination("Move the listener?", `${one.peer} goes on with another mount of the same format.`);
  if (!to) return;
  const query = new URLSearchParams({ to });
  await attempt($("listener-result"), done => `${done.moved} moved to ${to}, ${done.stayed} stayed`, () => order("POST", api(path, `/listeners/${one.id}/move?${query}`)));
  refreshListeners();
}
$("listener-move-all").addEventListener("click", async () => {
  const path = selected, to = await destination("Move all listeners?", `All of ${path} go on with another mount of the same format.`);
  if (!to) return;
  const query = new URLSearchParams({ to });
  await attempt($("listener-result"), done => `${done.moved} moved to ${to}, ${done.stayed} stayed`, () => order("POST", api(path, `/listeners/move?${query}`)));
  refreshListeners();
});
$("listener-filter").addEventListener("input", () => { listeners.page = 0; showListeners(); });
$("listener-refresh").addEventListener("click", refreshListeners);
$("page-back").addEventListener("click", () => { listeners.page -= 1; showListeners(); });
$("page-on").addEventListener("click", () => { listeners.page += 1; showListeners(); });
// A long list costs the server and the browser something: it is asked for anew only while it is short.
setInterval(() => { if ($("listener-live").checked && !document.hidden && !$("ask").open && listeners.all.length <= 2000) refreshListeners(); }, 5000);

// Bans.

const BANS_SHOWN = 200;
async function showBans() {
  const bans = await order("GET", "/api/v1/bans").catch(() => null);
  $("bans").hidden = bans === null;
  if (bans === null) return;
  const shown = bans.slice(-BANS_SHOWN).reverse();
  const rows = shown.map(ban => el("tr", {}, el("td", {}, ban.address), el("td", {}, ban.reason || "–"), el("td", {}, ban.until ? new Date(ban.until).toLocaleString([], { hour12: false }) : "for good"),
    el("td", { className: "acts" }, ban.configured ? el("span", { className: "soft" }, "in the file") : el("button", { type: "button", className: "small", onclick: () => lift(ban.address), ariaLabel: `Lift the ban of ${ban.address}` }, "Lift"))));
  if (bans.length > shown.length) rows.push(el("tr", {}, el("td", { colSpan: 4, className: "soft" }, `and ${number(bans.length - shown.length)} older ones`)));
  $("ban-rows").replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { colSpan: 4, className: "soft" }, "Nobody is banned."))]));
}
async function lift(address) {
  const query = new URLSearchParams({ address });
  await attempt($("ban-result"), () => `${address} may come again`, () => order("DELETE", `/api/v1/bans?${query}`));
  showBans();
}
$("ban").addEventListener("submit", async event => {
  event.preventDefault();
  const query = new URLSearchParams([...new FormData($("ban"))].filter(([, value]) => value.trim()));
  if (await attempt($("ban-result"), done => `${done.address} is banned, ${done.kicked} removed`, () => order("POST", `/api/v1/bans?${query}`))) $("ban").reset();
  showBans();
  refreshListeners();
});

// Events and log, the newest first.

function happened(message) {
  if (message.lastEventId) {
    const born = message.lastEventId.split("-")[0];
    if (origin !== born) { origin = born; seen.ids.clear(); seen.line = { n: 0, at: 0 }; }
    if (seen.ids.has(message.lastEventId)) return;
    seen.ids.add(message.lastEventId);
    if (seen.ids.size > 1000) seen.ids.delete(seen.ids.values().next().value);
  }
  const event = JSON.parse(message.data);
  const node = el("li", { data: { event: event.event } }, el("time", {}, clock(event.at)), el("span", { className: `word ${event.severity ?? ""}` }, event.event.replaceAll("_", " ")),
    event.mount ? el("a", { href: `#mount=${encodeURIComponent(event.mount)}` }, event.mount) : "", event.mount ? " " : "", event.says);
  add($("event-list"), node, KEPT.events);
  showAudience();
}
function showAudience() {
  const shown = $("events-audience").checked;
  for (const node of $("event-list").children) node.hidden = !shown && node.dataset.event === "listeners";
}
function add(list, node, most) {
  list.prepend(node);
  while (list.children.length > most) list.lastElementChild.remove();
}
function logged(said) {
  if (said.n <= seen.line.n && said.at <= seen.line.at) return; // it was told before the connection was lost
  seen.line = { n: said.n, at: said.at };
  lines.log.push(said);
  lines.log.splice(0, lines.log.length - KEPT.lines);
  if (!$("log-hold").checked) showLine(said);
}
function showLine(said) {
  add($("log-list"), el("li", {}, el("time", {}, clock(said.at)), el("span", { className: `word ${said.level}` }, said.level), el("span", { className: "soft" }, `${said.target} `), said.text), KEPT.lines);
}
$("log-hold").addEventListener("change", () => {
  if ($("log-hold").checked) return;
  $("log-list").replaceChildren();
  lines.log.forEach(showLine);
});
$("log-level").addEventListener("change", () => {
  lines.log = [];
  seen.line = { n: 0, at: 0 };
  $("log-list").replaceChildren();
  connect();
});
$("events-audience").addEventListener("change", showAudience);

// The server.

const totals = [new Chart("Listeners", value => (value === null ? "–" : number(Math.round(value))), [""]), new Chart("Rate", bits, ["in", "out"]), new Chart("Busiest thread", value => (value === null ? "–" : `${Math.round(value * 100)} %`), [""])];
$("total-charts").append(...totals.map(chart => chart.node));
function showServer() {
  const kept = series.get("") ?? {};
  totals[0].draw([kept.listeners ?? []]);
  totals[1].draw([kept.in ?? [], kept.out ?? []]);
  totals[2].draw([kept.busy ?? []]);
  const rows = stats.shards.map((shard, i) => [i, `${Math.round(shard.busy * 100)} %`, number(shard.listeners), span(shard.window_seconds), span(shard.turn_p99)]);
  const body = $("shard-rows");
  while (body.children.length < rows.length) body.append(el("tr", {}, ...rows[0].map(() => el("td"))));
  while (body.children.length > rows.length) body.lastElementChild.remove();
  rows.forEach((cells, i) => cells.forEach((cell, j) => say(body.children[i].children[j], cell)));
}

$("mount-filter").addEventListener("input", () => { if (stats) showMounts(); });
$("mount-close").addEventListener("click", () => { selected = null; $("mount").hidden = true; history.replaceState(null, "", "#mounts"); if (stats) showMounts(); $("mount-list").querySelector("button")?.focus(); });
addEventListener("hashchange", select);
document.addEventListener("visibilitychange", () => { if (!document.hidden && stats) { showMounts(); showMount(); showServer(); } });
connect();
showBans().then(select);
