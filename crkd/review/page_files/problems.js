// Checks of the decisions, and the file that is saved.

// Names without case, as apply-review compares them: "Straße" is "STRASSE", but "ı" is not "i".
const folded = (text) => text.replace(/[^ı]+/g, (part) => part.toLowerCase().toUpperCase().toLowerCase());
const plain = (name) => folded(name.normalize("NFC").trim().replace(/\s+/g, " "));
const VISIBLE = /(?![\u115f\u1160\u2800\u3164\uffa0])[^\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{M}\p{Z}]/u;

// Classes that had images before this review. A network may keep others, unless its head is fitted again.
const filled = new Set(D.images.filter((image) => !image.out).map((image) => image.class));

// Returns what is wrong with each decision, as class id -> sentence.
function problems() {
  const wrong = new Map();
  const users = new Map(D.known.map((name) => [plain(name), "a known class"]));
  const claim = (id, name) => {
    const tidy = plain(name ?? "");
    if (!tidy) wrong.set(id, "Give it a name.");
    else if (name.trim().length > D.max_name) wrong.set(id, `At most ${D.max_name} characters.`);
    else if (/[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/u.test(name.trim()))
      wrong.set(id, "The name holds a character that cannot be seen.");
    else if (!VISIBLE.test(name)) wrong.set(id, "Give it a name that can be seen.");
    else if (users.has(tidy)) wrong.set(id, `“${name.trim()}” is taken by ${users.get(tidy)}.`);
    else users.set(tidy, `class ${id}`);
  };
  const takes = (target) => {
    const id = baseOf(target);
    if (id < known) return true;
    if (!target.includes(".")) return stays(id);
    const part = actionOf(id) === "split" && decided.get(id).parts[Number(target.split(".")[1])];
    return Boolean(part) && !part.into;
  };
  for (const { id } of D.classes) {
    const choice = decided.get(id);
    if (stays(id)) claim(id, nameOf(id));
    if (stays(id) && (D.refits || filled.has(id)) && !sizeOf(id)) wrong.set(id, "No image is left; reject or merge it.");
    if (choice?.action === "merge" && !takes(choice.into))
      wrong.set(id, `“${targetName(choice.into)}” does not stay; merge into another class.`);
    if (choice?.action !== "split") continue;
    choice.parts.forEach((part, number) => {
      if (!part.into) claim(id, part.name);
      else if (part.into.includes(".") || !takes(part.into)) wrong.set(id, `“${targetName(part.into)}” does not stay; choose another class for part ${number + 1}.`);
    });
    const used = new Set(members(id).map((index) => choice.of.get(index) ?? 0));
    if (used.size < choice.parts.length) wrong.set(id, "A part has no image left; split into fewer parts.");
  }
  if (D.classes.length && !D.classes.some(({ id }) => stays(id) || (actionOf(id) === "split" && decided.get(id).parts.some((part) => !part.into))))
    wrong.set(D.classes[0].id, "No discovered class is left; keep at least one.");
  return wrong;
}

// The images that are in a class after moves, before a merge or split.
function members(id) {
  const list = [];
  for (let index = 0; index < D.images.length; index++) if (classOf(index) === id) list.push(index);
  return list;
}

function target(text) {
  const [into, part] = text.split(".").map(Number);
  return part === undefined ? { into } : { into, part };
}

function decisions() {
  const classes = [];
  for (const { id } of D.classes) {
    const choice = decided.get(id);
    if (!choice) continue;
    const { action } = choice;
    if (action === "accept") classes.push({ id, action, name: choice.name.trim() });
    if (action === "reject") classes.push({ id, action });
    if (action === "merge") classes.push({ id, action, ...target(choice.into) });
    if (action !== "split") continue;
    const lists = choice.parts.map(() => []);
    for (const index of members(id)) lists[choice.of.get(index) ?? 0].push(D.images[index].id);
    classes.push({ id, action, parts: choice.parts.map((part, number) => ({
      ...(part.into ? { into: Number(part.into) } : { name: part.name.trim() }), images: lists[number] })) });
  }
  const images = [...moved].map(([index, to]) => ({
    id: D.images[index].id, to: to !== null && actionOf(to) === "reject" ? null : to,
  }));
  return { format: D.format, version: D.version, model_sha256: D.model_sha256, shown_sha256: D.shown_sha256, classes, images };
}
