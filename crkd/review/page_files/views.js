// Views: the lists of images that the grid can show.

let current = null;
// {kind: "class", id, part} | {kind: "similar", index} | {kind: "map"} | {kind: a key of `collections`}
let view = { kind: "class", id: null, part: null };

const every = (wanted) => {
  const list = [];
  for (let index = 0; index < D.images.length; index++) if (wanted(index)) list.push(index);
  return list;
};
const disputed = D.images.flatMap((image, index) => (image.disputed === undefined ? [] : [index]));

// Collections over all classes; one without images is not offered.
const collections = {
  all: { title: "All images", note: "of every class", list: () => every(() => true), size: () => D.images.length },
  disputed: { title: "Disputed", note: "a known class fits better, by the model", list: () => disputed.filter((index) => !moved.has(index)),
    size: () => disputed.filter((index) => !moved.has(index)).length },
  moved: { title: "Moved", note: "decided by you, one by one", list: () => [...moved.keys()].sort((a, b) => a - b), size: () => moved.size },
  out: { title: "No class", note: "taken out or of a rejected class", list: () => every((index) => targetOf(index) === "out"), size: () => sizeOf("out") },
};

// Images of a class: those in it, and those of classes that are merged into it.
function imagesOfClass(id, part) {
  if (part !== null) return every((index) => classOf(index) === id && (decided.get(id).of.get(index) ?? 0) === part);
  const own = String(id);
  return every((index) => classOf(index) === id || targetOf(index) === own);
}

const SIMILAR = 200;
// Orders of the grid: the name, and the key by which images are sorted. Equal keys keep the stored
// order: by the class of the model, the most certain first.
const orders = {
  typical: ["most typical first", (index) => -D.images[index].confidence],
  doubtful: ["most doubtful first", (index) => D.images[index].confidence],
  class: ["by class", (index) => mapClass(index) ?? Infinity],
  file: ["by file name", null],
};

function sorted(list, order) {
  const key_of = orders[order][1];
  if (!key_of) return list.sort((a, b) => (D.images[a].id < D.images[b].id ? -1 : 1));
  const keys = new Float64Array(D.images.length);
  for (const index of list) keys[index] = key_of(index);
  return list.sort((a, b) => keys[a] - keys[b] || a - b);
}

function listed() {
  if (view.kind === "similar") return nearest(view.index, SIMILAR);
  const list = view.kind === "class" ? imagesOfClass(view.id, view.part)
    : view.kind === "map" ? imagesOfMap() : collections[view.kind].list();
  return sorted(list, $("order").value);
}

function headline() {
  if (view.kind === "similar") return ["Nearest images", `to ${fileName(view.index)}, over all classes`];
  if (view.kind === "map") return [region ? "Images of the region" : "Images on the map", shownClasses.size ? "of the chosen classes" : ""];
  if (view.kind !== "class") return [collections[view.kind].title, collections[view.kind].note];
  if (view.part !== null) return [`Part ${view.part + 1}`, targetName(`${view.id}.${view.part}`)];
  return ["Images", ""];
}

function show(wanted) {
  if (wanted.kind !== view.kind) $("order").value = wanted.kind === "class" ? "typical" : "class";
  view = wanted;
  if (view.kind !== "class") $("detail").scrollTop = 0;
  selected.clear();
  showList();
  showDetail();
  showPictures();
}

function showCollection(kind) {
  open("classes");
  show({ kind });
}

function showSimilar(index) {
  open("classes");
  show({ kind: "similar", index });
  $("grid").focus();
}

// Draws everything again after a change that may concern any part of the page.
function showAll() {
  // Undo and redo can take the shown part away.
  if (view.kind === "class" && !decided.get(view.id)?.parts?.[view.part]) view.part = null;
  if (!$("map").hidden) drawMap();
  showList();
  showDetail();
  showPictures(true);
}
