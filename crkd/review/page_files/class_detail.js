// One class: its name, the decision, and what is known about it.

function showDetail() {
  const head = $("head");
  if (view.kind === "map") return;
  if (view.kind === "similar") {
    head.replaceChildren(el("div", { class: "example" }, el("div", { class: "shown" }, thumbnail(view.index)),
      el("div", {}, el("strong", {}, targetName(targetOf(view.index))), el("p", { class: "soft" }, D.images[view.index].id),
        el("button", { id: "back", onclick: () => choose(current) }, "Back to the class"))));
    return;
  }
  if (view.kind !== "class") {
    head.replaceChildren();
    return;
  }
  const entry = found.get(view.id);
  if (!entry && view.id === null) head.replaceChildren(el("p", {}, "This run discovered no class."));
  else if (!entry) head.replaceChildren(el("div", { class: "naming" }, swatch(view.id), el("strong", { class: "known" }, D.known[view.id]), el("span", { class: "soft" }, "known class")));
  else {
    head.replaceChildren(naming(entry), actionBar(entry),
      actionOf(entry.id) === "split" ? partsEditor(entry) : "",
      el("div", { class: "facts" }, resemblance(entry), stability(entry)));
    markActions();
  }
}

function naming(entry) {
  const action = actionOf(entry.id);
  const name = el("input", { id: "name", value: nameOf(entry.id), maxlength: D.max_name,
    "aria-label": "Name of the class", disabled: action === "reject" || action === "merge" || action === "split" });
  name.addEventListener("input", () => {
    decide(entry.id, { action: "accept", name: name.value }, `name ${entry.id}`);
    markActions();
  });
  return el("div", { class: "naming" }, swatch(entry.id), name, el("span", { class: "soft", id: "class-size" }),
    el("span", { class: "problem", id: "problem", role: "status" }));
}

function actionBar(entry) {
  const into = el("select", { class: "merge", id: "into", "aria-label": "Merge into another class" },
    targetOptions("Merge into …", String(entry.id)));
  into.value = decided.get(entry.id)?.into ?? "";
  into.addEventListener("change", () => act("merge", into.value || null));
  const button = (action, text, hint) => el("button", { class: action, id: `do-${action}`, title: hint, onclick: () => act(action) }, text);
  return el("div", { class: "actions", role: "toolbar", "aria-label": "Decide on this class" },
    button("accept", "Accept", "Keep it under this name (a)"),
    button("reject", "Reject", "No class (x)"),
    into,
    button("split", "Split", "Divide it into clusters of its images (s)"),
    button("open", "Undecided", "Take the decision back (u)"));
}

function markActions() {
  const action = actionOf(view.id);
  for (const name of ["accept", "reject", "split"])
    $(`do-${name}`)?.setAttribute("aria-pressed", String(action === name));
  $("into")?.classList.toggle("on", action === "merge");
  if ($("do-open")) $("do-open").disabled = action === null;
  if ($("problem")) $("problem").textContent = problems().get(view.id) ?? "";
  if ($("class-size")) {
    const size = shownSize(view.id);
    $("class-size").textContent = `class ${view.id} · ${images(size)}, ${D.num_images ? percent(size / D.num_images) : "0 %"} of all`;
  }
}

function act(action, into = null) {
  if (view.kind !== "class" || !found.has(view.id)) return;
  const id = view.id, name = nameOf(id);
  // Nothing is taken back but by "open": a name that was typed, or names of parts, would be lost.
  if (actionOf(id) === action && action !== "merge") return;
  if (action === "open") decide(id, null);
  else if (action === "merge") decide(id, into === null ? null : { action, name, into });
  else if (action === "split") splitInto(id, 2);
  else decide(id, { action, name });
  view.part = null;
  const focused = document.activeElement?.id;
  showDetail();
  showPictures(true);
  if (focused) $(focused)?.focus();
}

function resemblance(entry) {
  return entry.resembles.length ? el("div", {}, el("h2", {}, "Resembles ", el("small", {}, "known classes")),
    el("div", { class: "bars" }, entry.resembles.flatMap(([id, share]) => bar(D.known[id], share)))) : "";
}

function stability(entry) {
  if (typeof entry.stability !== "number") return "";
  const sentence = entry.stability >= 0.8 ? "It was found again."
    : entry.stability >= 0.5 ? "It was found again in part; look at the doubtful images."
      : "Other borders were found as well; it may be a mixture.";
  const fill = el("i");
  fill.style.width = `${100 * entry.stability}%`;
  return el("div", {}, el("h2", {}, "Stability ", el("small", {}, "over other heads or seeds")),
    el("p", {}, el("span", { class: "figure" }, percent(entry.stability)), el("span", { class: "soft" }, sentence)),
    el("div", { class: "track" }, fill));
}
