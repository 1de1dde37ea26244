// Updates the page live. Every two seconds the script fetches the totals. It keeps those of the last five minutes, and shows
// the differences: tiles and tables over the last minute, curves step by step. The browser stores nothing.
"use strict";

const EVERY_MS = 2000;
const KEPT_MS = 5 * 60 * 1000; // a curve begins with half a minute and grows to this
const WINDOW_MS = 60 * 1000;
const ROWS = 50;
const SOME_FAIL = 0.01; // as in page/render.rs
const MANY_FAIL = 0.05;

const history = []; // totals, oldest first
const marks = []; // { time, rate, p95, failing, progress, workers } between two of them
let sort = "rate";
let paused = false;

// --- arithmetic ------------------------------------------------------------------------------------------------------

// Returns the increase of a counter. A counter that is lower than before has restarted at zero.
const added = (now, before) => (now >= (before ?? 0) ? now - (before ?? 0) : now);

function addedDurations(now, before) {
  if (!before || before.count > now.count || before.bounds.length !== now.bounds.length) return now;
  return {
    bounds: now.bounds,
    cumulative: now.cumulative.map((count, place) => count - before.cumulative[place]),
    count: now.count - before.count,
  };
}

function addedStatuses(now, before) {
  const statuses = {};
  for (const name of Object.keys(now)) statuses[name] = added(now[name], before?.[name]);
  return statuses;
}

const all = (statuses) => statuses.good + statuses.client_errors + statuses.server_errors;

// Computes a quantile like histogram_quantile of Prometheus.
function quantile(durations, share) {
  if (!(durations.count > 0)) return null;
  const rank = share * durations.count;
  const place = durations.cumulative.findIndex((count) => count >= rank);
  if (place < 0) return durations.bounds.at(-1) ?? null;
  const low = place ? durations.bounds[place - 1] : 0;
  const below = place ? durations.cumulative[place - 1] : 0;
  const inside = durations.cumulative[place] - below;
  return low + (durations.bounds[place] - low) * (inside > 0 ? (rank - below) / inside : 1);
}

// Returns the figures of the page for the time between two totals.
function difference(now, before) {
  const seconds = Math.max((now.time_ms - before.time_ms) / 1000, 0.001);
  const statuses = addedStatuses(now.statuses, before.statuses);
  const aborted = added(now.aborted, before.aborted);
  const answered = all(statuses) + aborted;
  return {
    seconds,
    answered,
    rate: added(now.requests, before.requests) / seconds,
    durations: addedDurations(now.durations, before.durations),
    server_errors: statuses.server_errors,
    aborted,
    failing: answered ? (statuses.server_errors + aborted) / answered : 0,
    endpoints: joined(now.endpoints, before.endpoints, endpointKey, (one, other) => {
      const part = addedStatuses(one.statuses, other?.statuses);
      const durations = addedDurations(one.durations, other?.durations);
      return {
        ...one,
        rate: all(part) / seconds,
        client_errors: part.client_errors,
        server_errors: part.server_errors,
        failing: all(part) ? part.server_errors / all(part) : 0,
        p50: quantile(durations, 0.5),
        p95: quantile(durations, 0.95),
      };
    }),
    workers: joined(now.workers, before.workers, (worker) => worker.id, (one, other) => ({
      ...one,
      rate: added(one.requests, other?.requests) / seconds,
    })),
    exceptions: joined(now.exceptions, before.exceptions, exceptionKey, (one, other) => ({
      ...one,
      recent: added(one.count, other?.count),
    })),
  };
}

const endpointKey = (row) => `${row.method} ${row.endpoint}`;
const exceptionKey = (row) => `${row.exception} ${row.method} ${row.endpoint}`;

function joined(rows, earlier, key, join) {
  const before = new Map(earlier.map((row) => [key(row), row]));
  return rows.map((row) => join(row, before.get(key(row))));
}

// --- words -----------------------------------------------------------------------------------------------------------

const THIN = "\u202f";
const grouped = (text) => text.replace(/\B(?=(\d{3})+$)/g, THIN);
const count = (value) => grouped(value.toFixed(0));
const rate = (value) => (value >= 99.5 || value === 0 ? count(value) : value.toFixed(value >= 9.95 ? 0 : 1));
const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}${THIN}%`;

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.9995) return `${(seconds * 1e3).toFixed(seconds < 0.001 ? 2 : seconds < 0.01 ? 1 : 0)}${THIN}ms`;
  return `${seconds.toFixed(1)}${THIN}s`;
}

function uptime(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)}${THIN}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}${THIN}min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}${THIN}h`;
  return `${Math.floor(seconds / 86400)}${THIN}d`;
}

// --- drawing ---------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function svg(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function tile(id, value, note, level = "") {
  const node = byId(id);
  node.className = `tile ${level}`;
  say(node.querySelector(".value"), value);
  say(node.querySelector(".note"), note);
  spark(node.querySelector(".spark"), id);
}

// Draws a curve of the last five minutes, from zero, with a gap where a value is missing.
function spark(node, name) {
  const end = marks.at(-1)?.time ?? 0;
  const span = Math.max(end - (marks[0]?.time ?? 0), 30 * 1000);
  const points = marks.filter((mark) => mark[name] !== null).map((mark) => [mark.time, mark[name]]);
  node.replaceChildren();
  if (points.length < 2) return;
  const top = Math.max(...points.map((point) => point[1])) || 1;
  const xy = points.map(([time, value]) => `${(240 - ((end - time) / span) * 240).toFixed(1)},${(46 - (value / top) * 40).toFixed(1)}`);
  const [first, last] = [xy[0].split(",")[0], xy.at(-1).split(",")[0]];
  node.append(svg("polygon", { class: "area", points: `${first},48 ${xy.join(" ")} ${last},48` }));
  node.append(svg("polyline", { class: "stroke", points: xy.join(" ") }));
}

function cell(name, text, className) {
  const node = element("td", text, className);
  node.dataset.name = name;
  return node;
}

// Returns a cell with a bar behind the figure; its length is the share of the largest figure.
function loadCell(value, largest) {
  const node = cell("Per second", rate(value), "load");
  const bar = svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  bar.append(svg("rect", { width: (largest ? (value / largest) * 100 : 0).toFixed(1), height: 10 }));
  node.append(bar);
  return node;
}

function head(...parts) {
  const node = element("th");
  node.scope = "row";
  node.append(...parts);
  return node;
}

function drawEndpoints(recent, now) {
  const weight = (row) => (sort === "rate" ? row.rate : (row[sort] ?? -1));
  const rows = [...recent.endpoints].sort((one, other) => weight(other) - weight(one) || other.rate - one.rate);
  const largest = Math.max(0, ...rows.map((row) => row.rate));
  byId("endpoint-rows").replaceChildren(
    ...rows.slice(0, ROWS).map((row) => {
      const line = element("tr", undefined, row.rate ? "" : "quiet");
      line.append(
        head(element("span", row.method, "method"), ` ${row.endpoint}`),
        loadCell(row.rate, largest),
        cell("Half", duration(row.p50)),
        cell("95 %", duration(row.p95)),
        cell("4xx", count(row.client_errors), row.client_errors ? "" : "zero"),
        cell("5xx", count(row.server_errors), row.server_errors ? "hot" : "zero"),
      );
      return line;
    }),
  );
  const left = now.more_endpoints + Math.max(0, rows.length - ROWS);
  say(byId("more-endpoints"), left ? `And ${count(left)} more.` : "");
}

function drawWorkers(recent) {
  const largest = Math.max(0, ...recent.workers.map((worker) => worker.rate));
  byId("worker-rows").replaceChildren(
    ...recent.workers.slice(0, ROWS).map((worker) => {
      const line = element("tr", undefined, worker.state === "running" ? "" : "quiet");
      line.append(
        head(worker.id),
        cell("State", worker.state, worker.state === "running" ? "" : "hot"),
        loadCell(worker.rate, largest),
        cell("CPU", `${worker.cpu_percent.toFixed(0)}${THIN}%`),
        cell("Memory", `${(worker.memory_bytes / 1e6).toFixed(0)}${THIN}MB`),
        cell("Up", uptime(worker.uptime_seconds)),
        cell("Restarts", count(worker.restarts)),
      );
      return line;
    }),
  );
}

// Draws the requests in progress, oldest first, and the deaths, newest first.
function drawRunning(running) {
  byId("running").hidden = byId("last-deaths").hidden = !running;
  if (!running) return;
  byId("running-rows").replaceChildren(
    ...running.requests.slice(0, ROWS).map((request) => {
      const line = element("tr");
      line.append(
        head(element("span", request.method, "method"), ` ${request.endpoint}`),
        cell("For", duration(request.age)),
        cell("Worker", request.worker),
        cell("Process", String(request.pid)),
        cell("Trace", request.trace ?? "–", "trace"),
      );
      return line;
    }),
  );
  const left = running.more + Math.max(0, running.requests.length - ROWS);
  const none = running.requests.length || left ? "" : "No request.";
  say(byId("more-running"), left ? `And ${count(left)} more, which began later.` : none);
  drawDeaths(running.deaths);
}

let drawnDeaths = ""; // not drawn again while they are the same, so that what a reader has opened stays open

function drawDeaths(deaths) {
  const drawn = JSON.stringify(deaths);
  if (drawn === drawnDeaths) return;
  drawnDeaths = drawn;
  byId("deaths").replaceChildren(
    ...deaths.map((death) => {
      const line = element("li");
      const told = element("span", death.line);
      if (death.stack.length) {
        const details = element("details");
        details.append(element("summary", "Where it hung"), element("pre", death.stack.join("\n")));
        told.append(details);
      }
      line.append(element("b", moment(death.time * 1000)), told);
      return line;
    }),
    ...(deaths.length ? [] : [element("li", "None.", "none")]),
  );
}

function moment(time) {
  const isToday = new Date(time).toDateString() === new Date().toDateString();
  return isToday ? clock(time) : `${new Date(time).toLocaleDateString()} ${clock(time)}`;
}

function drawLines(id, lines, none) {
  byId(id).replaceChildren(
    ...lines.map(([name, where, times]) => {
      const line = element("li");
      line.append(element("b", name), element("span", where), element("i", times));
      return line;
    }),
    ...(lines.length ? [] : [element("li", none, "none")]),
  );
}

function verdict(level, headline) {
  byId("verdict").className = level;
  say(byId("headline"), headline);
  document.title = `${headline} – Gunicorn`;
}

const levelOf = (share) => (share > MANY_FAIL ? "bad" : share > SOME_FAIL ? "warn" : "");

function draw() {
  const now = history.at(-1);
  const from = history.find((one) => one.time_ms >= now.time_ms - WINDOW_MS);
  const recent = difference(now, from);
  const level = levelOf(recent.failing);
  if (!now.workers.length) verdict("idle", "Waiting for the first worker");
  else if (!now.running) verdict("bad", "No worker is running");
  else if (level) verdict(level, `${percent(recent.failing)} of requests fail`);
  else if (!now.requests) verdict("good", "Ready, no requests yet");
  else verdict("good", recent.rate ? "Healthy" : "Healthy, and idle");

  say(byId("when"), paused ? "Paused." : `Live, over the last ${Math.max(1, Math.round(recent.seconds))} seconds.`);
  tile("rate", rate(recent.rate), `per second; ${count(now.requests)} in all`);
  tile("latency", duration(quantile(recent.durations, 0.95)), `half ${duration(quantile(recent.durations, 0.5))}, 99 % ${duration(quantile(recent.durations, 0.99))}`);
  tile("failing", percent(recent.failing), `${count(recent.server_errors)} errors, ${count(recent.aborted)} cut off`, level);
  const told = (value) => (value === null ? "–" : count(value));
  tile("progress", told(now.in_progress), `${told(now.waiting)} wait to be accepted`);
  const restarts = Object.values(now.restarts).reduce((sum, one) => sum + one, 0);
  tile("workers", count(now.running), `${count(restarts)} restarts`, now.workers.length && !now.running ? "bad" : "");
  drawEndpoints(recent, now);
  drawWorkers(recent);
  drawLines(
    "exceptions",
    [...recent.exceptions]
      .sort((one, other) => other.recent - one.recent || other.count - one.count)
      .slice(0, 20)
      .map((row) => [row.exception, `in ${row.method} ${row.endpoint}`, `${count(row.recent)} ×, ${count(row.count)} in all`]),
    "No exceptions.",
  );
  drawLines(
    "restarts",
    [
      ...Object.entries(now.restarts).map(([reason, times]) => [reason, "ended a worker", `${count(times)} ×`]),
      ...Object.entries(now.signals).map(([signal, times]) => [signal, "reached the arbiter", `${count(times)} ×`]),
    ],
    "None.",
  );
  const empty = byId("empty");
  if (empty && now.requests) empty.hidden = true;
  const noWorker = byId("no-worker");
  if (noWorker && now.workers.length) noWorker.hidden = true;
}

// --- polling ---------------------------------------------------------------------------------------------------------

function remember(now) {
  const before = history.at(-1);
  history.push(now);
  while (history[0].time_ms < now.time_ms - KEPT_MS) history.shift();
  if (!before) return;
  const step = difference(now, before);
  marks.push({
    time: now.time_ms,
    rate: step.rate,
    latency: quantile(step.durations, 0.95),
    failing: step.failing,
    progress: now.in_progress ?? now.waiting,
    workers: now.running,
  });
  while (marks[0].time < now.time_ms - KEPT_MS) marks.shift();
}

// Called when no new figures arrive: marks the figures on the page as old.
function outage(headline, reason, since) {
  verdict("bad", headline);
  say(byId("scope"), reason);
  const last = history.at(-1);
  const figures = byId("figures");
  figures.classList.toggle("old", Boolean(last));
  figures.hidden = !last;
  const shown = last ? ` The figures below are those of ${clock(last.time_ms)}.` : "";
  say(byId("when"), `Since ${clock(since)}.${shown} This page goes on by itself.`);
}

const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
let silentSince = null; // the time since which the exporter has not answered

async function ask() {
  const answer = await fetch("-/page.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
  const text = await answer.text();
  silentSince = null;
  if (answer.ok) return JSON.parse(text);
  if (answer.status !== 503) throw new Error(text.trim());
  const { headline, reason, since_ms } = JSON.parse(text);
  outage(headline, reason, since_ms);
  return null;
}

async function beat() {
  if (!paused && !document.hidden) {
    try {
      const answer = await ask();
      if (answer) {
        byId("figures").classList.remove("old");
        byId("figures").hidden = false;
        remember(answer.figures);
        say(byId("scope"), answer.scope);
        drawRunning(answer.running);
        if (history.length > 1) draw();
      }
    } catch (error) {
      silentSince ??= Date.now();
      const isSilent = error.name === "TypeError" || error.name === "TimeoutError";
      outage("No figures", isSilent ? "The exporter does not answer: it has ended, or cannot be reached from here." : error.message, silentSince);
    }
  }
  setTimeout(beat, history.length > 1 ? EVERY_MS : 500);
}

for (const column of document.querySelectorAll("th.load")) column.textContent = "Per second";
const sorts = document.querySelector(".sorts");
sorts.hidden = false;
sorts.addEventListener("click", (event) => {
  const chosen = event.target.dataset.sort;
  if (!chosen) return;
  sort = chosen;
  for (const button of sorts.children) button.setAttribute("aria-pressed", String(button.dataset.sort === sort));
  if (history.length > 1) draw();
});
const pause = byId("pause");
pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  say(pause, paused ? "Resume" : "Pause");
  if (history.length > 1) draw();
});
beat();
