import { speak, speaker } from "./language.js";

const TEXTS = {
  title: ["Answerline API", "Answerline 接口文档"],
  api: ["API", "接口文档"],
  live: ["Live page", "实时看板"],
  language: ["Language", "语言"],
  sections: ["Sections", "章节"],
  keys: ["Send your API key with each request, except where none is needed:", "除注明无需密钥的接口外，每个请求都要带上 API 密钥："],
  problems: ["Errors are problem documents (RFC 9457) whose “detail” says what to mend.", "出错时返回问题文档（RFC 9457），其中 detail 说明如何更正。"],
  key: ["Your key, for trying", "试用密钥"],
  find: ["Find", "查找"],
  found: ["{count} of {all} endpoints", "共 {all} 个接口，显示 {count} 个"],
  noKey: ["No key needed.", "无需密钥。"],
  anyKey: ["Any key.", "任何密钥均可。"],
  roles: ["Key with the role {roles}.", "需要具有以下角色之一的密钥：{roles}。"],
  or: [" or ", "、"],
  parameters: ["Parameters", "参数"],
  body: ["Body: {type}", "请求体：{type}"],
  answers: ["Answers", "响应"],
  answer: ["Answer {status}: {type}", "响应 {status}：{type}"],
  exampleAnswer: ["Example of an answer", "响应示例"],
  status: ["Status", "状态码"],
  headers: ["Headers", "响应头"],
  name: ["Name", "名称"],
  type: ["Type", "类型"],
  meaning: ["Meaning", "说明"],
  required: ["required", "必填"],
  inPath: ["in the path", "路径参数"],
  inHeader: ["header", "请求头"],
  fallback: ["default {value}", "默认 {value}"],
  oneOf: ["one of {values}", "可选值：{values}"],
  range: ["{low} to {high}", "{low} 至 {high}"],
  length: ["length {low} to {high}", "长度 {low} 至 {high}"],
  tryIt: ["Try it", "试用"],
  send: ["Send", "发送"],
  stop: ["Stop", "停止"],
  sending: ["Sending …", "正在发送……"],
  changes: ["This changes what the running system holds.", "此操作会更改正在运行的系统中的数据。"],
  bodyType: ["Media type", "媒体类型"],
  bodyText: ["Body", "请求体"],
  same: ["The same with curl", "等效的 curl 命令"],
  took: ["{status} after {milliseconds} ms", "{status}，用时 {milliseconds} 毫秒"],
  missing: ["Fill in first: {name}", "请先填写：{name}"],
  broken: ["No answer: {fault}", "没有响应：{fault}"],
  empty: ["(no body)", "（无内容）"],
  binary: ["{bytes} bytes of {type}", "{type}，共 {bytes} 字节"],
  failed: ["The description could not be loaded: {fault}", "无法加载接口说明：{fault}"],
};
const LAST = ["operation", "pages"];
const KEY = "answerline.key";
const LONGEST_SHOWN = 200000;
const text = speaker(TEXTS);
const drafts = new Map(); // operation id -> what was filled in, kept while the language changes
const keyField = document.getElementById("key");
const findField = document.getElementById("find");
let api = null;
let fault = "";

function make(tag, content, attributes = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...[content ?? []].flat());
  return element;
}

/** Words between backticks become code. */
const prose = (words) => words.split("`").map((part, index) => (index % 2 ? make("code", part) : part));
const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// ---- schemas into words

function typeName(schema) {
  if (schema.const != null) return JSON.stringify(schema.const);
  const either = schema.oneOf ?? schema.anyOf;
  if (either) return [...new Set(either.map(typeName))].join(" / ");
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  const name = schema.items ? `array of ${typeName(schema.items)}` : types.join(" / ") || "any";
  return schema.format ? `${name} (${schema.format})` : name;
}

function meaning(schema, notes) {
  const words = [...notes];
  if (schema.description) words.push(schema.description);
  if (schema.enum) words.push(text("oneOf", { values: schema.enum.filter((one) => one !== null).join(", ") }));
  if (schema.minimum != null || schema.maximum != null) words.push(text("range", { low: schema.minimum ?? "–", high: schema.maximum ?? "–" }));
  if (schema.maxLength != null) words.push(text("length", { low: schema.minLength ?? 0, high: schema.maxLength }));
  if (schema.default != null && schema.default !== "") words.push(text("fallback", { value: JSON.stringify(schema.default) }));
  return words.join("; ");
}

function table(caption, rows) {
  const head = make("tr", ["name", "type", "meaning"].map((name) => make("th", text(name), { scope: "col" })));
  const body = rows.map(([name, schema, notes]) =>
    make("tr", [make("th", make("code", name), { scope: "row" }), make("td", typeName(schema)), make("td", meaning(schema, notes))]),
  );
  return make("table", [make("caption", caption), make("thead", head), make("tbody", body)]);
}

/** The fields of an object, and of the objects inside it, as rows of a table. */
function rowsOf(schema, before = "", depth = 0) {
  const inside = schema.items ?? schema;
  const needed = inside.required ?? [];
  return Object.entries(inside.properties ?? {}).flatMap(([name, field]) => [
    [before + name, field, needed.includes(name) ? [text("required")] : []],
    ...(depth < 2 ? rowsOf(field, `${before}${name}${field.items ? "[]" : ""}.`, depth + 1) : []),
  ]);
}

function resolve(told) {
  return told.$ref ? told.$ref.slice(2).split("/").reduce((part, name) => part[name], api) : told;
}

const exampleOf = (content) => Object.values(content?.examples ?? {})[0]?.value;

// ---- a request, as it is filled in

function draftOf(door) {
  if (!drafts.has(door.operationId)) {
    const values = Object.fromEntries((door.parameters ?? []).map((one) => [`${one.in} ${one.name}`, one.example == null ? "" : String(one.example)]));
    const kinds = door.requestBody?.content ?? {};
    const kind = Object.keys(kinds).find((one) => exampleOf(kinds[one]) !== undefined) ?? Object.keys(kinds)[0] ?? "";
    drafts.set(door.operationId, { values, kind, body: bodyFor(door, kind) });
  }
  return drafts.get(door.operationId);
}

function bodyFor(door, kind) {
  const example = exampleOf(door.requestBody?.content[kind]);
  if (example === undefined) return "";
  if (kind.endsWith("x-www-form-urlencoded") && typeof example === "object") return new URLSearchParams(example).toString();
  return shown(example);
}

/** Address, headers and body. `missing`: a parameter that has to be filled in. */
function requestOf(method, path, door) {
  const { values, kind, body } = draftOf(door);
  const given = (place) => (door.parameters ?? []).filter((one) => one.in === place && values[`${place} ${one.name}`] !== "");
  const missing = (door.parameters ?? []).find((one) => one.required && values[`${one.in} ${one.name}`] === "")?.name;
  const inPath = path.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(values[`path ${name}`] ?? "") || name.toUpperCase());
  const query = given("query").map((one) => `${encodeURIComponent(one.name)}=${encodeURIComponent(values[`query ${one.name}`])}`);
  const headers = given("header").map((one) => [one.name, values[`header ${one.name}`]]);
  if (kind) headers.push(["Content-Type", kind]);
  return { url: location.origin + inPath + (query.length ? `?${query.join("&")}` : ""), headers, body: kind ? body : undefined, missing };
}

const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

function curl(method, path, door) {
  const { url, headers, body } = requestOf(method, path, door);
  const words = [`curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(url)}`];
  if (door.security?.length) words.push('-H "Authorization: Bearer $KEY"');
  for (const [name, value] of headers) words.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body !== undefined) words.push(body.includes("\n") && !headers.some(([, value]) => value.includes("json")) ? "--data-binary @FILE" : `--data-binary ${quoted(body)}`);
  return words.join(" \\\n  ");
}

// ---- trying it

function drawTry(method, path, door) {
  const draft = draftOf(door);
  const command = make("pre", curl(method, path, door), { tabindex: "0", class: "curl" });
  const answer = make("div", null, { class: "answer", role: "status" });
  const changed = () => (command.textContent = curl(method, path, door));
  const form = make("form", null, { class: "try", novalidate: "" });
  for (const one of door.parameters ?? []) {
    const place = `${one.in} ${one.name}`;
    const input = make("input", null, { name: place, autocomplete: "off", spellcheck: "false", placeholder: one.schema.default == null ? "" : String(one.schema.default) });
    input.value = draft.values[place];
    if (one.required) input.required = true;
    input.addEventListener("input", () => {
      draft.values[place] = input.value;
      changed();
    });
    form.append(make("label", [make("code", one.name), input]));
  }
  const kinds = Object.keys(door.requestBody?.content ?? {});
  if (kinds.length) {
    const area = make("textarea", null, { rows: String(Math.min(16, Math.max(3, draft.body.split("\n").length))), spellcheck: "false", name: "body" });
    area.value = draft.body;
    area.addEventListener("input", () => {
      draft.body = area.value;
      changed();
    });
    if (kinds.length > 1) {
      const choice = make("select", kinds.map((kind) => make("option", kind, { value: kind })), { name: "kind" });
      choice.value = draft.kind;
      choice.addEventListener("change", () => {
        const untouched = draft.body === bodyFor(door, draft.kind);
        draft.kind = choice.value;
        if (untouched) area.value = draft.body = bodyFor(door, draft.kind);
        changed();
      });
      form.append(make("label", [make("span", text("bodyType")), choice]));
    }
    form.append(make("label", [make("span", text("bodyText")), area], { class: "wide" }));
  }
  const button = make("button", text("send"), { type: "submit" });
  form.append(make("p", [button, ...(method === "GET" ? [] : [make("span", text("changes"), { class: "quiet" })])], { class: "wide" }));
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    running = new AbortController();
    button.textContent = text("stop");
    await send(method, path, door, answer, running.signal);
    running = null;
    button.textContent = text("send");
  });
  return [make("h3", text("tryIt")), form, answer, make("h3", text("same")), command];
}

async function send(method, path, door, answer, signal) {
  const { url, headers, body, missing } = requestOf(method, path, door);
  if (missing) return answer.replaceChildren(make("p", text("missing", { name: missing }), { class: "fault" }));
  const key = keyField.value.trim();
  const sent = new Headers(headers);
  if (key) sent.set("Authorization", `Bearer ${key}`);
  answer.replaceChildren(make("p", text("sending")));
  const began = performance.now();
  try {
    const response = await fetch(url, { method, headers: sent, body, signal, credentials: "omit", cache: "no-store", redirect: "manual" });
    const took = Math.round(performance.now() - began);
    const line = make("p", text("took", { status: `${response.status} ${response.statusText}`.trim(), milliseconds: took }), {
      class: response.ok ? "good" : "fault",
      "data-status": String(response.status),
    });
    const told = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const content = make("pre", "", { tabindex: "0", class: "content" });
    answer.replaceChildren(line, make("details", [make("summary", text("headers")), make("pre", told, { class: "headers" })]), content);
    await read(response, content);
  } catch (reason) {
    if (!signal.aborted) answer.replaceChildren(make("p", text("broken", { fault: reason.message }), { class: "fault" }));
  }
}

async function read(response, content) {
  const type = response.headers.get("Content-Type") ?? "";
  if (type.startsWith("text/event-stream")) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      content.textContent = (content.textContent + part.value).slice(-LONGEST_SHOWN);
    }
  } else if (/json|text|xml|^$/.test(type)) {
    const told = await response.text();
    content.textContent = told === "" ? text("empty") : pretty(told, type).slice(0, LONGEST_SHOWN);
  } else {
    content.textContent = text("binary", { bytes: (await response.blob()).size, type });
  }
}

function pretty(told, type) {
  try {
    return type.includes("json") ? JSON.stringify(JSON.parse(told), null, 2) : told;
  } catch {
    return told;
  }
}

// ---- the page

function access(door) {
  if (!door.security?.length) return text("noKey");
  return door["x-roles"]?.length ? text("roles", { roles: door["x-roles"].join(text("or")) }) : text("anyKey");
}

function drawInside(method, path, door) {
  const parts = [make("p", prose(door.description)), make("p", access(door))];
  const places = { path: "inPath", header: "inHeader" };
  if (door.parameters?.length) {
    const notes = (one) => [...(places[one.in] ? [text(places[one.in])] : []), ...(one.required && one.in !== "path" ? [text("required")] : [])];
    parts.push(table(text("parameters"), door.parameters.map((one) => [one.name, { description: one.description, ...one.schema }, notes(one)])));
  }
  for (const [type, content] of Object.entries(door.requestBody?.content ?? {})) {
    const rows = rowsOf(content.schema);
    if (rows.length) parts.push(table(text("body", { type }), rows));
    else parts.push(make("p", text("body", { type })));
  }
  for (const [status, told] of Object.entries(door.responses).filter(([status]) => status < "300")) {
    for (const [type, content] of Object.entries(told.content ?? {})) {
      const rows = rowsOf(content.schema);
      if (rows.length) parts.push(table(text("answer", { status, type }), rows));
      const example = exampleOf(content);
      if (example !== undefined) parts.push(make("details", [make("summary", text("exampleAnswer")), make("pre", shown(example), { tabindex: "0" })]));
    }
  }
  const statuses = Object.entries(door.responses).map(([status, told]) => [make("code", status), ` ${resolve(told).description}`]);
  parts.push(make("p", [`${text("answers")}: `, ...statuses.flatMap((one, index) => (index ? [" · ", ...one] : one))], { class: "quiet" }));
  return [...parts, ...drawTry(method, path, door)];
}

function drawDoor(method, path, door, isOpen) {
  const inside = make("div", null, { class: "inside" });
  const line = make("summary", [make("span", method, { class: "method", "data-method": method }), make("code", path), make("span", prose(door.summary))]);
  const details = make("details", [line, inside], { id: door.operationId, class: "door" });
  const words = [method, path, door.operationId, door.description, door.tags, ...(door.parameters ?? []).map((one) => one.name)];
  for (const content of Object.values(door.requestBody?.content ?? {})) words.push(...rowsOf(content.schema).map(([name]) => name));
  details.dataset.words = words.join(" ").toLowerCase();
  const fill = () => inside.childElementCount || inside.append(...drawInside(method, path, door));
  details.addEventListener("toggle", () => details.open && fill());
  if (isOpen) fill();
  details.open = isOpen;
  return details;
}

function draw() {
  document.title = text("title");
  if (fault) document.getElementById("doors").replaceChildren(make("p", text("failed", { fault }), { class: "notice" }));
  if (!api) return;
  const open = new Set([...document.querySelectorAll("details.door[open]")].map((one) => one.id));
  const sections = new Map((api.tags ?? []).map((tag) => [tag.name, []]));
  for (const [path, doors] of Object.entries(api.paths)) {
    for (const [method, door] of Object.entries(doors)) {
      const tag = door.tags?.[0] || "other";
      if (!sections.has(tag)) sections.set(tag, []);
      sections.get(tag).push(drawDoor(method.toUpperCase(), path, door, open.has(door.operationId)));
    }
  }
  const told = Object.fromEntries((api.tags ?? []).map((tag) => [tag.name, tag.description]));
  const names = [...sections.keys()].filter((name) => sections.get(name).length).sort((a, b) => LAST.indexOf(a) - LAST.indexOf(b));
  document.getElementById("sections").replaceChildren(...names.map((name) => make("li", make("a", name, { href: `#section-${name}` }))));
  document.getElementById("doors").replaceChildren(
    ...names.map((name) => make("section", [make("h2", name, { id: `section-${name}` }), make("p", told[name] ?? "", { class: "quiet" }), ...sections.get(name)])),
  );
  find();
}

/** Shows what has all the words. */
function find() {
  const words = findField.value.toLowerCase().split(/\s+/).filter(Boolean);
  const doors = [...document.querySelectorAll("details.door")];
  for (const door of doors) door.hidden = !words.every((word) => door.dataset.words.includes(word));
  for (const section of document.querySelectorAll("#doors section")) section.hidden = !section.querySelector("details.door:not([hidden])");
  const count = doors.filter((door) => !door.hidden).length;
  document.getElementById("found").textContent = words.length ? text("found", { count, all: doors.length }) : "";
}

function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named?.classList.contains("door")) named.open = true;
  named?.scrollIntoView();
}

/** The live page keeps a key in the same place: for as long as the tab is open. */
function remember() {
  try {
    if (keyField.value) sessionStorage.setItem(KEY, keyField.value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // without storage the key lasts as long as the page
  }
}

try {
  keyField.value = sessionStorage.getItem(KEY) ?? "";
} catch {
  keyField.value = "";
}
keyField.addEventListener("change", remember);
findField.addEventListener("input", find);
speak(text, draw);
addEventListener("hashchange", openNamed);
try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(String(response.status));
  api = await response.json();
} catch (reason) {
  fault = reason.message;
}
draw();
openNamed();
