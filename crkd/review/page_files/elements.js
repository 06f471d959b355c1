// Elements of the document and small helpers.

const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const count = (number) => number.toLocaleString("en");
const images = (number) => `${count(number)} ${number === 1 ? "image" : "images"}`;

// Every text becomes a text node: a file may be called anything.
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "value") node.value = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== ""));
  return node;
}

function table(head, rows, numeric) {
  const kind = (column) => (column >= numeric ? "number" : null);
  const titles = head.some((text) => text)
    ? el("thead", {}, el("tr", {}, head.map((text, n) => el("th", { class: kind(n), scope: "col" }, text)))) : null;
  return el("table", {}, titles,
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((text, n) => el("td", { class: kind(n) }, text))))));
}

// Runs a function at most once for each drawn frame.
function once(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

function bar(label, share) {
  const fill = el("i");
  fill.style.width = `${100 * share}%`;
  return [el("span", { class: "label", title: label }, label), el("span", { class: "track" }, fill),
    el("span", { class: "value" }, percent(share))];
}
