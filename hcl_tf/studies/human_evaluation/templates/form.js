"use strict";
// One item at a time. All text enters the page as textContent, never as markup.
const sheet = JSON.parse(document.getElementById("data").textContent);
const items = [...new Set(sheet.rows.map((row) => row.item))];
const byId = (id) => document.getElementById(id);
const storageKey = "annotation " + sheet.id;
let place = 0;
let scores = {};

const name = (row, scale) => `${row.item} ${row.label} ${scale}`;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(storageKey)) || {};
  } catch {
    return null; // no storage (private window, blocked), or not ours
  }
}

function keep(changes) {
  // What another window of this form has entered meanwhile is kept.
  scores = { ...scores, ...stored(), ...changes };
  try {
    localStorage.setItem(storageKey, JSON.stringify(scores));
  } catch {
    warn("This browser does not keep entries. Download the sheet before you close this page.");
  }
}

function warn(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = false;
}

const rowsOf = (item) => sheet.rows.filter((row) => row.item === item);
const missing = (rows) => rows.reduce((sum, row) => sum + sheet.scales.filter((scale) => !scores[name(row, scale)]).length, 0);

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function textOf(text) {
  return text.trim()
    ? element("p", { className: "text", dir: "auto", textContent: text })
    : element("p", { className: "text empty", textContent: "(no text)" });
}

function choices(row, scale) {
  const group = name(row, scale);
  const legend = element("span", { className: "scale", textContent: scale, id: `scale ${group}`.replaceAll(" ", "-") });
  const radios = sheet.scores.map((score) => {
    const radio = element("input", { type: "radio", name: group, value: score, checked: scores[group] === score });
    radio.setAttribute("aria-label", `${scale} of ${row.label}: ${score}`);
    radio.addEventListener("change", () => give(group, score));
    return element("label", {}, radio, String(score));
  });
  const made = element("fieldset", {}, legend, ...radios);
  made.setAttribute("role", "radiogroup");
  made.setAttribute("aria-labelledby", legend.id);
  made.dataset.group = group;
  return made;
}

function give(group, score) {
  keep({ [group]: score });
  count();
}

function show(index, focus) {
  place = Math.max(0, Math.min(items.length - 1, index));
  const rows = rowsOf(items[place]);
  const source = element("div", { className: "source" }, element("h2", { textContent: "Source" }), textOf(rows[0].source));
  const outputs = rows.map((row) =>
    element("div", { className: "output" }, element("h2", { textContent: row.label }), textOf(row.output), ...sheet.scales.map((scale) => choices(row, scale))),
  );
  byId("item").replaceChildren(source, ...outputs);
  byId("position").textContent = `Item ${place + 1} of ${items.length}`;
  byId("back").disabled = place === 0;
  byId("next").disabled = byId("forward").disabled = place === items.length - 1;
  count();
  if (focus) {
    window.scrollTo(0, byId("item").offsetTop - document.querySelector("nav").offsetHeight - 8);
    focusOn(openGroup() || groups()[0], true);
  }
}

const groups = () => [...document.querySelectorAll("fieldset")];
const openGroup = () => groups().find((group) => !scores[group.dataset.group]);

function focusOn(group, still) {
  (group.querySelector(":checked") || group.querySelector("input")).focus({ preventScroll: still });
}

function count() {
  const left = missing(sheet.rows);
  const all = sheet.rows.length * sheet.scales.length;
  byId("bar").max = all;
  byId("bar").value = all - left;
  byId("status").textContent = left ? `${all - left} of ${all} scores given` : `All ${all} scores given. Download the sheet and send it back.`;
  byId("open").disabled = !left;
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "n" || event.key === "N") show(place + 1, true);
  else if (event.key === "p" || event.key === "P") show(place - 1, true);
  else if (sheet.scores.map(String).includes(event.key)) {
    const group = document.activeElement.closest("fieldset") || openGroup();
    if (!group) return;
    const radio = group.querySelector(`input[value="${event.key}"]`);
    radio.checked = true;
    give(group.dataset.group, Number(event.key));
    const following = groups()[groups().indexOf(group) + 1];
    if (following) focusOn(following);
    else byId(place < items.length - 1 ? "forward" : "download").focus();
  } else return;
  event.preventDefault();
}

function csv() {
  const quoted = (field) => `"${field.replaceAll('"', '""')}"`;
  const filled = sheet.rows.map((row) => [...row.cells, ...sheet.scales.map((scale) => String(scores[name(row, scale)] || ""))]);
  return "\ufeff" + [sheet.columns, ...filled].map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

function download() {
  const left = missing(sheet.rows);
  if (left) warn(`${left} scores are still missing, so this file is a copy for you only. Send it when all are given.`);
  else byId("notice").hidden = true;
  const link = element("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: sheet.file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const before = stored();
if (before === null) warn("This browser does not keep entries. Download the sheet before you close this page.");
else scores = before;
byId("back").addEventListener("click", () => show(place - 1, true));
byId("next").addEventListener("click", () => show(place + 1, true));
byId("forward").addEventListener("click", () => show(place + 1, true));
byId("open").addEventListener("click", () => show(items.findIndex((item) => missing(rowsOf(item))), true));
byId("download").addEventListener("click", download);
document.addEventListener("keydown", press);
byId("guideline").open = !Object.keys(scores).length;
show(Math.max(0, items.findIndex((item) => missing(rowsOf(item)))), false);
