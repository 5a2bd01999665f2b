"use strict";
// Shows solutions step by step. Every text from the data goes in as text, never as markup.
(() => {
  const FILTERS = {
    all: ["All", () => true],
    wrong: ["Wrong", (s) => s.correct === false],
    disagreement: ["Disagreement", (s) => s.disagree],
    unscored: ["Unscored", (s) => s.unscored],
  };
  const KEYS = [
    ["j  ↓", "next step"], ["k  ↑", "previous step"], ["n  →", "next solution"], ["p  ←", "previous solution"],
    ["1 2 3 4", "show all, wrong, disagreement, unscored"], ["/", "search"], ["Esc", "leave the search box or this help"], ["?", "this help"],
  ];

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }

  const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3));
  const firstError = (value) => (value === null ? "unknown" : value < 0 ? "none" : `step ${value + 1}`);

  function tint(shade) {  // orange below the threshold, blue above it, plain at it
    return `rgba(var(${shade < 0.5 ? "--low" : "--high"}), ${(Math.abs(shade - 0.5) * 1.1).toFixed(3)})`;
  }

  function outcomeWord(s) {
    if (s.correct === true) return "✓ correct";
    if (s.correct === false) return "✗ wrong";
    return s.ungraded ? `ungraded: ${s.ungraded}` : "ungraded";
  }

  class Viewer {
    constructor(root) {
      this.root = root;
      this.solutions = JSON.parse(document.getElementById(root.dataset.source).textContent);
      this.haystack = this.solutions.map((s) => [s.id, s.prompt, s.group, s.note, ...s.steps.map((t) => `${t.text} ${t.error_type || ""}`)].join("\n").toLowerCase());
      this.filter = "all";
      this.group = "";
      this.query = "";
      this.step = 0;
      this.build();
      this.refresh();
    }

    build() {
      this.root.replaceChildren();
      this.root.setAttribute("role", "region");
      this.root.setAttribute("aria-label", "Viewer of solutions");
      this.buttons = Object.entries(FILTERS).map(([key, [label, keep]]) =>
        element("button", { type: "button", "data-filter": key, "aria-pressed": "false", onclick: () => this.choose(key) }, `${label} (${this.solutions.filter(keep).length})`));
      this.search = element("input", { type: "search", placeholder: "Search text, id, error type", "aria-label": "Search solutions",
        oninput: () => { this.query = this.search.value.trim().toLowerCase(); this.refresh(); } });
      const groups = [...new Set(this.solutions.map((s) => s.group))].filter(Boolean).sort();
      const picker = groups.length > 1
        ? element("select", { "aria-label": "Group", onchange: (event) => { this.group = event.target.value; this.refresh(); } },
          element("option", { value: "" }, "All groups"), ...groups.map((name) => element("option", { value: name }, name)))
        : null;
      this.status = element("span", { class: "status", role: "status", "aria-live": "polite" });
      this.help = element("dialog", { "aria-label": "Keyboard help" }, element("h3", {}, "Keyboard"),
        element("dl", {}, ...KEYS.flatMap(([keys, what]) => [element("dt", {}, ...keys.split("  ").flatMap((key, i) => (i ? [" ", element("kbd", {}, key)] : [element("kbd", {}, key)]))), element("dd", {}, what)])),
        element("p", {}, element("button", { type: "button", onclick: () => this.help.close() }, "Close")));
      this.list = element("ul", { class: "list", "aria-label": "Solutions" });
      this.detail = element("div", { class: "detail", tabindex: "0", role: "group", "aria-label": "Solution" });
      this.root.append(
        element("div", { class: "toolbar" }, element("div", { class: "filters", role: "group", "aria-label": "Filter" }, ...this.buttons), picker, this.search,
          element("button", { type: "button", onclick: () => this.help.showModal() }, "Keys ", element("kbd", {}, "?")), this.status),
        element("div", { class: "legend" }, element("span", {}, "wrong ", element("span", { class: "scale" }), " right"),
          element("span", {}, "▼ below the threshold"), element("span", {}, element("span", { class: "swatch hatched" }), " unscored, with its reason"),
          element("span", {}, "✓ ✗ the truth")),
        element("div", { class: "columns" }, this.list, this.detail), this.help);
      this.root.addEventListener("keydown", (event) => this.arrows(event));
    }

    choose(key) { this.filter = key; this.refresh(); }

    refresh() {
      const keep = FILTERS[this.filter][1];
      this.shown = this.solutions.map((_, index) => index).filter((index) => {
        const s = this.solutions[index];
        return keep(s) && (!this.group || s.group === this.group) && (!this.query || this.haystack[index].includes(this.query));
      });
      for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.filter === this.filter));
      if (!this.shown.includes(this.current)) { this.current = this.shown[0]; this.step = 0; }
      this.list.replaceChildren(...this.shown.map((index) => this.entry(index)));
      this.draw();
    }

    entry(index) {
      const s = this.solutions[index];
      const marks = [s.correct === true ? "✓" : s.correct === false ? "✗" : "?", s.group, s.disagree ? "disagreement" : "", s.unscored ? "unscored steps" : ""].filter(Boolean).join(" · ");
      return element("li", {}, element("button", { type: "button", "data-index": String(index), onclick: () => { this.current = index; this.step = 0; this.draw(); } },
        element("span", { class: "prompt" }, `${index + 1}. ${s.prompt}`), element("span", { class: "marks" }, marks)));
    }

    draw() {
      for (const button of this.list.querySelectorAll("button")) {
        const here = Number(button.dataset.index) === this.current;
        button.setAttribute("aria-current", String(here));
        if (here) this.reveal(this.list, button);
      }
      if (this.current === undefined) {
        this.detail.replaceChildren(element("p", { class: "empty" }, "No solution matches. Clear the search or choose another filter."));
        this.status.textContent = "0 shown";
        return;
      }
      const s = this.solutions[this.current];
      const facts = [["problem", s.id], ["group", s.group], ["outcome", outcomeWord(s)], ["answer", s.answer ?? "none stated"], ["reference", s.reference],
        ["first error, model", firstError(s.predicted)], ["first error, truth", firstError(s.true_first)], ["ended", s.ended]];
      this.rows = s.steps.map((step, index) => this.row(s, step, index));
      this.detail.replaceChildren(
        element("div", { class: "problem" }, s.prompt),
        element("dl", { class: "facts" }, ...facts.filter(([, value]) => value).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
        s.note ? element("p", { class: "note" }, s.note) : "",
        element("ol", { class: "steps", "aria-label": "Steps" }, ...this.rows));
      this.detail.scrollTop = 0;
      this.mark(false);
      this.status.textContent = `${this.shown.indexOf(this.current) + 1} of ${this.shown.length}`;
    }

    row(s, step, index) {
      const scored = step.score !== null;
      const score = element("div", { class: scored ? "score" : "score unscored hatched", style: scored ? `background:${tint(step.shade)}` : null },
        scored ? number(step.score) : element("span", { class: "unscored-word" }, step.abstained ? "abstained" : "unscored"));
      const verdict = step.truth === true ? "✓ correct" : step.truth === false ? "✗ wrong" : "";
      const place = [s.predicted === index ? "first error, model" : "", s.true_first === index ? "first error, truth" : ""].filter(Boolean).join("; ");
      return element("li", { class: "step", tabindex: "-1", onclick: () => { this.step = index; this.mark(false); } },
        element("div", {}, element("span", { class: "number" }, `Step ${index + 1}${step.agent ? `, ${step.agent}` : ""}`), score,
          step.below ? element("span", { class: "flag" }, "▼ below threshold") : null, scored ? null : element("span", { class: "reason" }, step.abstained ? step.reason.replace(/^abstained:?\s*/, "") : step.reason)),
        element("div", { class: "text" }, step.text,
          step.observation !== undefined ? element("div", { class: "observation" }, `observed: ${step.observation}`) : null,
          step.rationale ? element("div", { class: "rationale" }, step.rationale) : null),
        element("div", { class: "truth" }, verdict ? element("span", { class: "verdict" }, verdict) : element("span", { class: "kind" }, "no label"),
          step.error_type ? element("span", { class: "kind" }, step.error_type.replaceAll("_", " ")) : null,
          step.value !== undefined ? element("span", { class: "kind" }, `value ${number(step.value)}`) : null,
          place ? element("span", { class: "kind" }, place) : null));
    }

    mark(focus) {
      this.rows.forEach((row, index) => {
        row.setAttribute("aria-current", String(index === this.step));
        row.tabIndex = index === this.step ? 0 : -1;
      });
      const row = this.rows[this.step];
      if (focus && row) { row.focus({ preventScroll: true }); row.scrollIntoView({ block: "nearest" }); }
    }

    reveal(box, child) {  // scrolls the box only, never the page
      const top = child.offsetTop - box.offsetTop;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + child.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top + child.offsetHeight - box.clientHeight;
    }

    moveStep(by) {
      if (!this.rows || !this.rows.length) return;
      this.step = Math.min(this.rows.length - 1, Math.max(0, this.step + by));
      this.mark(true);
    }

    moveSolution(by) {
      const place = this.shown.indexOf(this.current) + by;
      if (place < 0 || place >= this.shown.length) return;
      this.current = this.shown[place];
      this.step = 0;
      this.draw();
      this.mark(true);
    }

    arrows(event) {  // arrows act only inside the viewer, so that the page still scrolls
      if (isTyping(event) || this.help.open || event.ctrlKey || event.metaKey || event.altKey) return;
      const move = { ArrowDown: () => this.moveStep(1), ArrowUp: () => this.moveStep(-1), ArrowRight: () => this.moveSolution(1), ArrowLeft: () => this.moveSolution(-1) }[event.key];
      if (move) { event.preventDefault(); move(); }
    }

    key(event) {
      if (event.key === "Escape" && document.activeElement === this.search) { this.search.blur(); this.detail.focus(); return; }
      if (isTyping(event) || this.help.open || event.ctrlKey || event.metaKey || event.altKey) return;
      const names = Object.keys(FILTERS);
      const act = { j: () => this.moveStep(1), k: () => this.moveStep(-1), n: () => this.moveSolution(1), p: () => this.moveSolution(-1), "?": () => this.help.showModal(),
        "/": () => { this.search.focus(); this.search.select(); } }[event.key] || (names["1234".indexOf(event.key)] && (() => this.choose(names["1234".indexOf(event.key)])));
      if (act) { event.preventDefault(); act(); }
    }
  }

  const isTyping = (event) => event.target.matches && event.target.matches("input, select, textarea");
  const viewers = [...document.querySelectorAll(".viewer")].map((root) => new Viewer(root));
  // single letters act on the viewer that holds the focus, else on the one nearest the top of the window
  const active = () => viewers.find((viewer) => viewer.root.contains(document.activeElement))
    || viewers.reduce((best, viewer) => (Math.abs(viewer.root.getBoundingClientRect().top) < Math.abs(best.root.getBoundingClientRect().top) ? viewer : best));
  document.addEventListener("keydown", (event) => active().key(event));
})();
