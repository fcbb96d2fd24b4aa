import { speak, speaker } from "./language.js";

const TEXTS = {
  title: ["Answerline API", "Answerline 接口文档"],
  api: ["API", "接口文档"],
  live: ["Live page", "实时看板"],
  language: ["Language", "语言"],
  sections: ["Sections", "章节"],
  keys: ["Send your API key with each request, except where none is needed:", "除注明无需密钥的接口外，每个请求都要带上 API 密钥："],
  problems: ["Errors are problem documents (RFC 9457) whose “detail” says what to mend.", "出错时返回问题文档（RFC 9457），其中 detail 说明如何更正。"],
  noKey: ["No key needed.", "无需密钥。"],
  anyKey: ["Any key.", "任何密钥均可。"],
  roles: ["Key with the role {roles}.", "需要具有以下角色之一的密钥：{roles}。"],
  or: [" or ", "、"],
  parameters: ["Parameters", "参数"],
  body: ["Body: {type}", "请求体：{type}"],
  name: ["Name", "名称"],
  type: ["Type", "类型"],
  meaning: ["Meaning", "说明"],
  required: ["required", "必填"],
  inPath: ["in the path", "路径参数"],
  fallback: ["default {value}", "默认 {value}"],
  oneOf: ["one of {values}", "可选值：{values}"],
  range: ["{low} to {high}", "{low} 至 {high}"],
  length: ["length {low} to {high}", "长度 {low} 至 {high}"],
  failed: ["The description could not be loaded: {fault}", "无法加载接口说明：{fault}"],
};
const LAST = ["pages", "operation"];
const text = speaker(TEXTS);
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

// ---- schemas into words

function typeName(schema) {
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  const name = schema.items ? `array of ${typeName(schema.items)}` : types.join(" / ") || "any";
  return schema.format ? `${name} (${schema.format})` : name;
}

function meaning(schema, notes) {
  const words = [...notes];
  if (schema.description) words.push(schema.description);
  if (schema.enum) words.push(text("oneOf", { values: schema.enum.join(", ") }));
  if (schema.minimum != null || schema.maximum != null) words.push(text("range", { low: schema.minimum ?? "–", high: schema.maximum ?? "–" }));
  if (schema.maxLength != null) words.push(text("length", { low: schema.minLength ?? 0, high: schema.maxLength }));
  if (schema.default != null) words.push(text("fallback", { value: JSON.stringify(schema.default) }));
  return words.join("; ");
}

function table(caption, rows) {
  const head = make("tr", ["name", "type", "meaning"].map((name) => make("th", text(name), { scope: "col" })));
  const body = rows.map(([name, schema, notes]) =>
    make("tr", [make("th", make("code", name), { scope: "row" }), make("td", typeName(schema)), make("td", meaning(schema, notes))]),
  );
  return make("table", [make("caption", caption), make("thead", head), make("tbody", body)]);
}

// ---- an example that can be pasted

const VALUES = { integer: 1, number: 1, boolean: true };

function example(schema, name = "") {
  if (schema.default != null && JSON.stringify(schema.default) !== '""' && !Array.isArray(schema.default)) return schema.default;
  if (schema.enum) return schema.enum[0];
  const type = [schema.type ?? []].flat().find((one) => one !== "null");
  if (type === "array") return schema.items ? [example(schema.items, name)] : [];
  if (type === "object") return {};
  return VALUES[type] ?? (schema.format === "date-time" ? "2026-11-21T09:00:00Z" : name || "text");
}

const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

function curl(method, path, door) {
  const inPath = path.replaceAll(/\{(\w+)\}/g, (_, name) => name.toUpperCase());
  const query = door.parameters.filter((one) => one.in === "query" && (one.required || one.name === "source" || one.name === "wait"));
  const search = query.length ? `?${query.map((one) => `${one.name}=${encodeURIComponent(one.name === "wait" ? 20 : example(one.schema, one.name))}`).join("&")}` : "";
  const words = [`curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(location.origin + inPath + search)}`];
  if (door.security?.length) words.push('-H "Authorization: Bearer $KEY"');
  const [type, content] = Object.entries(door.requestBody?.content ?? {})[0] ?? [];
  if (type) words.push(`-H ${quoted(`Content-Type: ${type}`)}`);
  if (content?.schema.properties) {
    const fields = Object.entries(content.schema.properties);
    const needed = fields.filter(([name]) => content.schema.required?.includes(name));
    const sent = (needed.length ? needed : fields.slice(0, 3)).map(([name, schema]) => [name, example(schema, name)]);
    words.push(`-d ${quoted(JSON.stringify(Object.fromEntries(sent)))}`);
  } else if (type) {
    words.push("--data-binary @FILE");
  }
  return words.join(" \\\n  ");
}

// ---- the page

function access(door) {
  if (!door.security?.length) return text("noKey");
  return door["x-roles"]?.length ? text("roles", { roles: door["x-roles"].join(text("or")) }) : text("anyKey");
}

function drawDoor(method, path, door, isOpen) {
  const inside = make("div", [make("p", prose(door.description)), make("p", access(door))], { class: "inside" });
  if (door.parameters?.length) {
    inside.append(
      table(text("parameters"), door.parameters.map((one) => [one.name, one.schema, [...(one.in === "path" ? [text("inPath")] : one.required ? [text("required")] : [])]])),
    );
  }
  const [type, content] = Object.entries(door.requestBody?.content ?? {})[0] ?? [];
  if (content?.schema.properties) {
    const needed = content.schema.required ?? [];
    const fields = Object.entries(content.schema.properties);
    inside.append(table(text("body", { type }), fields.map(([name, schema]) => [name, schema, needed.includes(name) ? [text("required")] : []])));
  } else if (type) {
    inside.append(make("p", text("body", { type: Object.keys(door.requestBody.content).join(", ") })));
  }
  inside.append(make("pre", curl(method, path, door), { tabindex: "0" }));
  const line = make("summary", [make("span", method, { class: "method", "data-method": method }), make("code", path), make("span", prose(door.summary))]);
  const details = make("details", [line, inside], { id: door.operationId });
  details.open = isOpen;
  return details;
}

function draw() {
  document.title = text("title");
  if (fault) document.getElementById("doors").replaceChildren(make("p", text("failed", { fault }), { class: "notice" }));
  if (!api) return;
  const open = new Set([...document.querySelectorAll("details[open]")].map((one) => one.id));
  const sections = new Map();
  for (const [path, doors] of Object.entries(api.paths)) {
    for (const [method, door] of Object.entries(doors)) {
      const tag = door.tags?.[0] || "other";
      if (!sections.has(tag)) sections.set(tag, []);
      sections.get(tag).push(drawDoor(method.toUpperCase(), path, door, open.has(door.operationId)));
    }
  }
  const names = [...sections.keys()].sort((a, b) => LAST.includes(a) - LAST.includes(b));
  document.getElementById("sections").replaceChildren(...names.map((name) => make("li", make("a", name, { href: `#section-${name}` }))));
  document.getElementById("doors").replaceChildren(
    ...names.map((name) => make("section", [make("h2", name, { id: `section-${name}` }), ...sections.get(name)])),
  );
}

function openNamed() {
  const named = document.getElementById(location.hash.slice(1));
  if (named?.tagName === "DETAILS") named.open = true;
  named?.scrollIntoView();
}

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
