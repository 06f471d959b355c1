// List of the classes and collections.

const badges = { accept: "accepted", reject: "rejected", merge: "merged", split: "split" };
// Order of the list. It changes when a class is left, so that a decision does not move the class at once.
let order = [];

function visible() {
  const wanted = plain($("filter").value);
  const rank = {
    open: (entry) => (actionOf(entry.id) ? 1 : 0),
    id: (entry) => entry.id,
    size: (entry) => -shownSize(entry.id),
    stability: (entry) => entry.stability ?? 2,
  }[$("sort").value];
  return D.classes
    .filter((entry) => plain(nameOf(entry.id)).includes(wanted) || plain(entry.name).includes(wanted))
    .sort((a, b) => rank(a) - rank(b) || a.id - b.id);
}

// Images of a class as they are decided; those of a class that goes elsewhere are its own.
const modelSizes = new Map();
for (const image of D.images) modelSizes.set(image.class, (modelSizes.get(image.class) ?? 0) + 1);
function shownSize(id) {
  const choice = decided.get(id);
  if (!choice || choice.action === "accept") return sizeOf(id);
  if (choice.action === "split") return choice.parts.reduce((sum, part, number) => sum + (part.into ? 0 : sizeOf(`${id}.${number}`)), 0);
  return 0;
}

function metaOf(entry) {
  const choice = decided.get(entry.id), was = modelSizes.get(entry.id) ?? 0, now = shownSize(entry.id);
  const meta = [choice?.action === "merge" ? `→ ${targetName(choice.into)}` : images(now)];
  if (choice?.action !== "merge" && now !== was) meta.push(`was ${count(was)}`);
  if (typeof entry.stability === "number") meta.push(`${percent(entry.stability)} stable`);
  return meta.join(" · ");
}

const isCurrent = (id) => (view.kind === "class" && id === current ? "true" : null);

function listRow(entry, wrong) {
  const action = actionOf(entry.id), label = wrong.has(entry.id) ? "look again" : badges[action];
  return el("li", {}, el("button", {
    class: action === "reject" ? "row rejected" : "row", "data-id": entry.id,
    "aria-current": isCurrent(entry.id), onclick: () => choose(entry.id),
  },
  el("span", { class: "strip", "aria-hidden": "true" }, typical(entry.id).map(thumbnail)),
  el("span", { class: "text" },
    el("span", { class: "name" }, swatch(entry.id), nameOf(entry.id)),
    el("span", { class: "meta" }, metaOf(entry))),
  label ? el("span", { class: `badge ${wrong.has(entry.id) ? "reject" : action}` }, label) : null));
}

// The three most typical images by the model; images are stored by class, the most certain first.
const firstOf = new Map();
D.images.forEach((image, index) => firstOf.has(image.class) || firstOf.set(image.class, index));
function typical(id) {
  const first = firstOf.get(id);
  return first === undefined ? [] : [0, 1, 2].map((n) => first + n).filter((index) => D.images[index]?.class === id);
}

function knownRow(id) {
  return el("li", {}, el("button", { class: "row", "data-id": id, "aria-current": isCurrent(id), onclick: () => choose(id) },
    el("span", { class: "text" }, el("span", { class: "name" }, swatch(id), D.known[id]),
      el("span", { class: "meta" }, images(sizeOf(id))))));
}

function showCollections() {
  $("collections").replaceChildren(...Object.entries(collections).flatMap(([kind, { title, size }]) => {
    const number = size();
    return number || view.kind === kind ? [el("button", { "data-kind": kind, "aria-pressed": String(view.kind === kind), onclick: () => showCollection(kind) },
      `${title} `, el("small", {}, count(number)))] : [];
  }));
}

function showList() {
  const wrong = problems(), top = $("list").scrollTop;
  showCollections();
  const ids = visible().map((entry) => entry.id);
  const same = ids.length === order.length && order.every((id) => ids.includes(id));
  if (!same) order = ids;
  const rows = order.map((id) => listRow(found.get(id), wrong));
  const wanted = plain($("filter").value);
  const others = D.known.flatMap((name, id) => (sizeOf(id) && plain(name).includes(wanted) ? [knownRow(id)] : []));
  if (others.length) rows.push(el("li", { class: "section" }, "Known classes"), ...others);
  $("list").replaceChildren(...rows);
  $("list").scrollTop = top;
}

// Applies the order again; the class that was left may move.
function sortList() {
  order = [];
  showList();
}

function choose(id) {
  current = id;
  order = [];
  $("detail").scrollTop = 0;
  if (!$("map").hidden) open("classes");
  show({ kind: "class", id, part: null });
  $("list").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const place = order.indexOf(current);
  const next = order[Math.min(order.length - 1, Math.max(0, place + by))];
  if (next !== undefined) choose(next);
}
