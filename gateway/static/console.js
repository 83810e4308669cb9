"use strict";

const EVERY_MS = 2000;
const whole = new Intl.NumberFormat();
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
let before = null;

function setText(name, text) {
  document.querySelector(`[data-text="${name}"]`).textContent = text;
}

function setNumber(name, n) {
  document.querySelector(`[data-number="${name}"]`).textContent = whole.format(n);
}

function element(kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

// rows: [name, [parts of the bar], what is written beside it]
function setBars(name, rows, longest) {
  const cells = rows.flatMap(([label, parts, written]) => {
    const track = element("div", "track");
    parts.forEach((part, place) => {
      const fill = element("div", place ? "fill second" : "fill");
      fill.style.width = `${Math.min(100, (100 * part) / (longest || 1))}%`;
      track.append(fill);
    });
    return [element("span", "", label), track, element("span", "count", written)];
  });
  document.querySelector(`[data-table="${name}"]`).replaceChildren(...(cells.length ? cells : [element("p", "empty", "nothing yet")]));
}

function setCounts(name, counts) {
  const rows = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  setBars(name, rows.map(([label, n]) => [label, [n], whole.format(n)]), Math.max(0, ...rows.map(([, n]) => n)));
}

function setSends(sends) {
  const scheduled = sends.scheduled || {};
  const urgent = sends.urgent || {};
  const channels = [...new Set([...Object.keys(scheduled), ...Object.keys(urgent)])].sort();
  const parts = channels.map((channel) => [scheduled[channel] || 0, urgent[channel] || 0]);
  const words = ([planned, asked]) => [planned && `${whole.format(planned)} scheduled`, asked && `${whole.format(asked)} urgent`].filter(Boolean).join(", ");
  const rows = channels.map((channel, i) => [channel, parts[i], words(parts[i])]);
  setBars("sends", rows, Math.max(0, ...parts.map(sum)));
}

function show(overview) {
  const sent = sum(Object.values(overview.sends).flatMap((channels) => Object.values(channels)));
  setNumber("windows", overview.windows);
  setNumber("candidates", overview.candidates);
  setNumber("sent", sent);
  setNumber("outbox_backlog", overview.outbox_backlog);
  setText("share", overview.candidates ? `${percent.format(sent / overview.candidates)} of candidates` : "");
  setText("lag", overview.window_lag_s === null ? "–" : `${overview.window_lag_s.toFixed(1)} s`);
  setText("model_id", overview.model_id || "none");
  setText("alarms", overview.alarms.join("; "));
  setText("last_slot", overview.last_slot_at === null ? "no window yet" : `last slot ${new Date(overview.last_slot_at * 1000).toLocaleString()}`);
  if (before && overview.at > before.at) {
    setText("rate", `${whole.format(Math.round((overview.candidates - before.candidates) / (overview.at - before.at)))} per second now`);
  }
  before = overview;
  setSends(overview.sends);
  setCounts("dispositions", overview.dispositions);
  const outcomes = Object.entries(overview.outcomes).flatMap(([channel, ends]) => Object.entries(ends).map(([end, n]) => [`${channel}: ${end}`, n]));
  setCounts("outcomes", Object.fromEntries(outcomes));
  setBars("budget_use", Object.entries(overview.budget_use).map(([channel, share]) => [channel, [share], percent.format(share)]), 1);
}

async function poll() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("/console/data", { cache: "no-store" });
    if (answer.status === 401 || answer.status === 403) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error((await answer.json()).detail);
    const overview = await answer.json();
    show(overview);
    state.textContent = `as of ${new Date(overview.at * 1000).toLocaleString()}, counted since the store began`;
    state.className = "dim";
  } catch (error) {
    state.textContent = `no answer: ${error.message}`;
    state.className = "bad";
  }
  setTimeout(poll, EVERY_MS);
}

poll();
