import { currentLanguage, speak, speaker } from "./language.js";
import { follow } from "./stream.js";

const TEXTS = {
  title: ["Answerline live", "Answerline 实时看板"],
  live: ["Live", "实时看板"],
  api: ["API", "接口文档"],
  language: ["Language", "语言"],
  connecting: ["Connecting…", "正在连接…"],
  open: ["Live", "实时"],
  lost: ["Reconnecting – figures of {time}", "正在重新连接 – 数据截至 {time}"],
  lostEarly: ["Reconnecting…", "正在重新连接…"],
  unavailable: ["Figures not available at the moment", "暂时无法取得数据"],
  locked: ["API key needed", "需要 API 密钥"],
  keyAsked: ["This wallboard is not public. API key with the role “supervisor” or “metrics”:", "此看板未公开。请输入具有 supervisor 或 metrics 角色的 API 密钥："],
  keyUnknown: ["This key is not known here.", "该密钥无效。"],
  keyForbidden: ["This key may not see the figures.", "该密钥无权查看数据。"],
  show: ["Show", "查看"],
  today: ["today", "今日"],
  now: ["now", "当前"],
  queues: ["Queues", "队列"],
  agents: ["Agents", "坐席"],
  agentsFree: ["Agents free", "空闲坐席"],
  ofAll: ["{count} of {all}", "{count} / {all}"],
  queue: ["Queue", "队列"],
  waiting: ["Waiting", "等待中"],
  longestWait: ["Longest wait", "最长等待"],
  talking: ["Talking", "通话中"],
  answered: ["Answered", "已接听"],
  abandoned: ["Abandoned", "已放弃"],
  timedOut: ["Timed out", "超时离开"],
  leftByKey: ["Left by\u00a0key", "按键离开"],
  serviceLevel: ["Service level", "服务水平"],
  noQueues: ["No queues yet", "暂无队列"],
  noAgents: ["No agents yet", "暂无坐席"],
  agent: ["Agent", "坐席"],
  state: ["State", "状态"],
  since: ["For", "持续时间"],
  available: ["Available", "空闲"],
  offered: ["Ringing", "振铃中"],
  busy: ["Talking", "通话中"],
  wrap_up: ["Wrap-up", "话后处理"],
  paused: ["Paused", "暂停"],
  offline: ["Offline", "离线"],
  unknown: ["Unknown", "未知"],
  told: ["{waiting} waiting, {talking} talking, {free} agents free", "{waiting} 个等待，{talking} 个通话中，{free} 名坐席空闲"],
};
const TELL_AT_MOST_EVERY = 20_000;
const NONE = "–";

const text = speaker(TEXTS);
const byId = (id) => document.getElementById(id);
const shown = { link: "connecting", figures: null, ahead: 0, at: null, toldAt: 0, told: "" };

// ---- figures into words

const count = (value) => (value ?? 0).toLocaleString(currentLanguage());
const share = (value) => (value == null ? NONE : (Math.floor(value * 100) / 100).toLocaleString(currentLanguage(), { style: "percent" }));
const stateName = (state) => (state in TEXTS ? text(state) : state);

function duration(since) {
  if (since == null) return "";
  const seconds = Math.max(0, Math.floor(moment() - since));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  const padded = [minutes, seconds % 60].map((part) => String(part).padStart(2, "0")).join(":");
  return hours ? `${hours}:${padded}` : padded;
}

/** The server's time now; while the figures are old, the time they are of. */
function moment() {
  return shown.link === "open" || shown.at === null ? Date.now() / 1000 + shown.ahead : shown.at;
}

const COLUMNS = {
  queues: [
    ["queue", (row) => row.queue],
    ["waiting", (row) => count(row.waiting)],
    ["longestWait", (row) => duration(row.longest_wait_since) || NONE],
    ["talking", (row) => count(row.talking)],
    ["answered", (row) => count(row.answered)],
    ["abandoned", (row) => count(row.abandoned)],
    ["timedOut", (row) => count(row.timed_out)],
    ["leftByKey", (row) => count(row.left_by_key)],
    ["serviceLevel", (row) => share(row.service_level)],
  ],
  agents: [
    ["agent", (row) => row.agent],
    ["state", (row) => stateName(row.state), (row) => row.reason || row.queue],
    ["since", (row) => duration(row.since) || NONE],
  ],
};

// ---- drawing: every name through textContent, for it may hold anything

function set(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function mark(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

function make(tag, role, attributes = {}) {
  const element = document.createElement(tag);
  element.setAttribute("role", role);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function drawHead(table) {
  const row = make("tr", "row");
  for (const [name] of COLUMNS[table]) {
    const cell = make("th", "columnheader", { scope: "col" });
    cell.textContent = text(name);
    row.append(cell);
  }
  byId(table).tHead.replaceChildren(row);
}

function newRow(table) {
  const row = make("tr", "row");
  COLUMNS[table].forEach(([, , aside], index) => {
    const cell = index ? make("td", "cell") : make("th", "rowheader", { scope: "row" });
    cell.append(document.createElement("span"));
    if (aside) cell.append(document.createElement("small"));
    row.append(cell);
  });
  return row;
}

/** Rows stay the same elements from event to event, so that nothing jumps under a finger or a screen reader. */
function drawBody(table, rows) {
  const body = byId(table).tBodies[0];
  const key = COLUMNS[table][0][1];
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = rows.map((figures) => {
    const row = known.get(key(figures)) ?? newRow(table);
    mark(row, "key", key(figures));
    mark(row, "state", figures.state ?? (figures.waiting ? "waiting" : "quiet"));
    COLUMNS[table].forEach(([name, value, aside], index) => {
      const cell = row.cells[index];
      mark(cell, "name", name);
      mark(cell, "label", text(name));
      set(cell.firstElementChild, value(figures));
      if (aside) set(cell.lastElementChild, aside(figures) ?? "");
    });
    return row;
  });
  if (!rows.length) wanted.push(emptyRow(table));
  wanted.forEach((row, index) => {
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
  while (body.rows.length > wanted.length) body.lastElementChild.remove();
}

function emptyRow(table) {
  const row = make("tr", "row");
  const cell = make("td", "cell", { colspan: String(COLUMNS[table].length) });
  cell.textContent = text(table === "queues" ? "noQueues" : "noAgents");
  row.append(cell);
  return row;
}

function draw() {
  drawLink();
  set(byId("clock"), clockTime(Date.now() / 1000 + shown.ahead));
  if (!shown.figures) return;
  const { queues, agents } = shown.figures;
  drawBody("queues", queues);
  drawBody("agents", agents);
  const sum = (name) => queues.reduce((total, row) => total + (row[name] ?? 0), 0);
  const waits = queues.map((row) => row.longest_wait_since).filter((since) => since != null);
  const [waiting, talking] = [sum("waiting"), sum("talking")];
  const free = agents.filter((row) => row.state === "available").length;
  const present = agents.filter((row) => row.state !== "offline").length;
  set(byId("total-waiting"), count(waiting));
  set(byId("total-longest"), waits.length ? duration(Math.min(...waits)) : NONE);
  set(byId("total-talking"), count(talking));
  set(byId("total-free"), text("ofAll", { count: count(free), all: count(present) }));
  mark(byId("total-waiting").parentElement, "state", waiting ? "waiting" : "quiet");
  tell(text("told", { waiting, talking, free }));
}

/** A screen reader hears the sum of it, seldom enough to be listened to. */
function tell(sentence) {
  if (sentence === shown.told || Date.now() - shown.toldAt < TELL_AT_MOST_EVERY) return;
  shown.told = sentence;
  shown.toldAt = Date.now();
  set(byId("told"), sentence);
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(currentLanguage(), { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

function drawLink() {
  mark(document.body, "link", shown.link);
  const key = shown.link === "lost" && shown.at === null ? "lostEarly" : shown.link;
  set(byId("link"), text(key, { time: shown.at && clockTime(shown.at) }));
}

// ---- the stream

function link(state) {
  if (shown.link === "open" && state !== "open") shown.at = moment();
  shown.link = state;
  draw();
}

function hear(event) {
  const told = JSON.parse(event.data);
  if (event.name === "figures") {
    shown.ahead = told.now - Date.now() / 1000;
    shown.figures = told;
    link("open");
  } else if (event.name === "unavailable") {
    link("unavailable");
  }
}

function askForKey(status, hadKey) {
  link("locked");
  const form = byId("key-form");
  form.hidden = false;
  set(byId("key-fault"), !hadKey ? "" : text(status === 403 ? "keyForbidden" : "keyUnknown"));
  byId("key").value = "";
  byId("key").focus();
  return new Promise((resolve) => {
    form.onsubmit = (submitted) => {
      submitted.preventDefault();
      form.hidden = true;
      resolve(byId("key").value.trim());
    };
  });
}

speak(text, () => {
  document.title = text("title");
  drawHead("queues");
  drawHead("agents");
  draw();
});
setInterval(draw, 1000);
follow("/v1/stream?topics=live", { hear, link, askForKey });
