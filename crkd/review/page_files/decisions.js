// The decisions of the person, and the class of every image that results from them.

// Class id -> {action, name, into, parts, of}. `into` is a target. `parts` are {name, into} of a split
// class, and `of` maps its images to parts. Values are replaced, never changed, so that undo is exact.
const decided = new Map();
// Image -> class id, or null for no class.
const moved = new Map();

const actionOf = (id) => decided.get(id)?.action ?? null;
const nameOf = (id) => decided.get(id)?.name ?? found.get(id)?.name ?? D.known[id];
const stays = (id) => actionOf(id) === null || actionOf(id) === "accept";
// An image that an earlier review took out has no class.
const classOf = (index) => (moved.has(index) ? moved.get(index) : D.images[index].out ? null : D.images[index].class);

// A target is the text of a class id, of a part ("7.1"), or "out" for no class.
const targetName = (target) => {
  if (target === "out") return "no class";
  const [id, part] = target.split(".").map(Number);
  return part === undefined ? nameOf(id) : decided.get(id)?.parts?.[part]?.name ?? nameOf(id);
};
const baseOf = (target) => (target === "out" ? null : Number(target.split(".")[0]));

function follow(id, index) {
  const choice = decided.get(id);
  if (!choice || choice.action === "accept") return String(id);
  if (choice.action === "reject") return "out";
  if (choice.action === "merge") return choice.into;
  const part = choice.of.get(index) ?? 0;
  return choice.parts[part].into ?? `${id}.${part}`;
}
const targetOf = (index) => {
  const id = classOf(index);
  return id === null ? "out" : follow(id, index);
};

// Targets that can take images: known classes, classes that stay, and parts of split classes.
function targets({ parts = true } = {}) {
  const open = D.classes.flatMap(({ id }) => {
    if (stays(id)) return [String(id)];
    if (!parts || actionOf(id) !== "split") return [];
    return decided.get(id).parts.flatMap((part, number) => (part.into ? [] : [`${id}.${number}`]));
  });
  return { discovered: open, known: D.known.map((_, id) => String(id)) };
}

function targetOptions(first, without, given) {
  const offered = targets(given);
  const option = (target) => el("option", { value: target }, targetName(target));
  return [el("option", { value: "" }, first),
    el("optgroup", { label: "Discovered classes" }, offered.discovered.filter((target) => target !== without).map(option)),
    offered.known.length ? el("optgroup", { label: "Known classes" }, offered.known.filter((target) => target !== without).map(option)) : null];
}

// Number of images of every target; made again after every change.
let sizes = new Map();
function countSizes() {
  sizes = new Map();
  for (let index = 0; index < D.images.length; index++) {
    const target = targetOf(index);
    sizes.set(target, (sizes.get(target) ?? 0) + 1);
  }
}
const sizeOf = (target) => sizes.get(String(target)) ?? 0;

// --- undo and redo: a step is a list of replaced values ------------------------------------------

const past = [], future = [];
let open_step = null;

function put(map, key, value) {
  open_step.changes.push({ map, key, before: map.get(key), after: value, had: map.has(key) });
  value === undefined ? map.delete(key) : map.set(key, value);
}

// Makes one step of all changes in `change`. Steps of the same `tag` in a row are one, as in typing.
function edit(tag, change) {
  open_step = { tag, changes: [] };
  change();
  const last = past[past.length - 1];
  if (tag && last?.tag === tag) last.changes.push(...open_step.changes);
  else if (open_step.changes.length) past.push(open_step);
  open_step = null;
  future.length = 0;
  changed();
}

function undo() {
  const step = past.pop();
  if (!step) return;
  for (const { map, key, before, had } of [...step.changes].reverse()) had ? map.set(key, before) : map.delete(key);
  future.push(step);
  changed();
  showAll();
}

function redo() {
  const step = future.pop();
  if (!step) return;
  for (const { map, key, after } of step.changes) after === undefined ? map.delete(key) : map.set(key, after);
  past.push({ ...step, tag: null });
  changed();
  showAll();
}

const decide = (id, choice, tag = null) => edit(tag, () => put(decided, id, choice ?? undefined));

// Moves images to a target; undefined puts them back to the class that the model gave them.
function moveTo(indices, target) {
  edit(null, () => {
    const parts = new Map();
    for (const index of indices) {
      if (target === undefined) put(moved, index, undefined);
      else put(moved, index, baseOf(target));
      if (target?.includes(".")) parts.set(index, Number(target.split(".")[1]));
    }
    if (!parts.size) return;
    const choice = decided.get(baseOf(target));
    put(decided, baseOf(target), { ...choice, of: new Map([...choice.of, ...parts]) });
  });
}
