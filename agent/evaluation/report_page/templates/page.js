"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const tip = document.getElementById("tip");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // colours: as the system has them, light, dark
  const themes = ["auto", "light", "dark"];
  const button = document.querySelector(".theme");
  const wear = (name) => {
    if (name === "auto") delete root.dataset.theme; else root.dataset.theme = name;
    button.querySelector(".theme-name").textContent = name;
    button.setAttribute("aria-label", "Colours: " + (name === "auto" ? "as the system has them" : name));
    try { localStorage.setItem("mendsim-theme", name); } catch { /* a page without storage keeps no memory */ }
  };
  let theme = "auto";
  try { theme = localStorage.getItem("mendsim-theme") || "auto"; } catch { /* as above */ }
  if (themes.includes(theme)) wear(theme); else theme = "auto";
  button.addEventListener("click", () => wear(theme = themes[(themes.indexOf(theme) + 1) % themes.length]));

  // words beside the pointer
  const show = (lines, x, y) => {
    tip.replaceChildren(...lines.map((line) => {
      const made = document.createElement("div");
      if (line.look) {
        const key = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        key.setAttribute("viewBox", "0 0 24 8");
        key.setAttribute("class", "swatch");
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("d", "M0 4 24 4");
        path.setAttribute("class", line.look);
        key.append(path);
        made.append(key);
      }
      made.append(line.text);
      return made;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
    const top = Math.min(y + 14, innerHeight - box.height - 4);
    tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  };
  const hide = () => {
    tip.hidden = true;
    all(".cross").forEach((line) => line.remove());
    all(".here").forEach((field) => field.classList.remove("here"));
  };

  // what a line is worth at a place: read from its own path
  const SIDE = 1000;
  const points = new WeakMap();
  const read = (path) => {
    if (!points.has(path)) {
      points.set(path, path.getAttribute("d").split("M").filter(Boolean).map((part) => {
        const flat = part.trim().split(/\s+/).map(Number);
        return flat.filter((_, i) => i % 2 === 0).map((x, i) => [x, flat[2 * i + 1]]);
      }));
    }
    return points.get(path);
  };
  const valueAt = (path, x, steps) => {
    let best = null;
    for (const part of read(path)) {
      for (const [px, py] of part) {
        if (steps ? px <= x : best === null || Math.abs(px - x) < Math.abs(best[0] - x)) best = [px, py];
      }
    }
    return best === null || (!steps && Math.abs(best[0] - x) > 30) ? null : best[1];
  };
  const clock = (seconds) => `${Math.floor(Math.round(seconds) / 60)}:${String(Math.round(seconds) % 60).padStart(2, "0")}`;
  const short = (value) => String(Number(value.toPrecision(3))).replace("-", "\u2212");
  const scaled = (plane, name) => plane.dataset[name].split(" ").map(Number);
  const cross = (plane, share, x, y) => {
    hide();
    share = Math.min(Math.max(share, 0), 1);
    const [low, high] = scaled(plane, "x");
    const [bottom, top] = scaled(plane, "y");
    const at = low + share * (high - low);
    const unit = plane.dataset.xUnit;
    const lines = [{ text: unit === "min:s" ? clock(at) : `${plane.dataset.xLabel} ${short(at)} ${unit}` }];
    for (const group of all("g:not([hidden])", plane)) {
      const path = group.querySelector(".line");
      const found = valueAt(path, share * SIDE, "steps" in plane.dataset);
      if (found === null) continue;
      const value = bottom + (1 - found / SIDE) * (top - bottom);
      const told = "percent" in plane.dataset ? `${short(100 * value)} %` : `${short(value)} ${plane.dataset.unit}`;
      lines.push({ text: `${group.dataset.line} ${told}`, look: path.getAttribute("class") });
    }
    const figure = plane.closest("figure");
    for (const other of all(".plane", figure)) {
      const line = document.createElement("i");
      line.className = "cross";
      line.style.left = `${100 * share}%`;
      other.append(line);
    }
    plane.dataset.at = share;
    show(lines, x, y);
  };
  for (const plane of all(".plane")) {
    plane.addEventListener("pointermove", (event) => {
      const box = plane.getBoundingClientRect();
      cross(plane, (event.clientX - box.left) / box.width, event.clientX, event.clientY);
    });
    plane.addEventListener("pointerleave", hide);
    plane.addEventListener("blur", hide);
    plane.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.01, ArrowRight: 0.01 }[event.key];
      if (event.key === "Escape") hide();
      if (step === undefined) return;
      event.preventDefault();
      const share = Math.min(Math.max(Number(plane.dataset.at ?? 0.5) + step, 0), 1);
      const box = plane.getBoundingClientRect();
      cross(plane, share, box.left + share * box.width, box.top);
    });
  }
  for (const part of all("[data-tip]")) {
    part.addEventListener("pointermove", (event) => {
      hide();
      part.classList.add("here");
      show([{ text: part.dataset.tip }], event.clientX, event.clientY);
    });
    part.addEventListener("pointerleave", hide);
  }
  for (const map of all(".map")) {
    const rows = all("tr", map).map((row) => all("td[data-tip]", row)).filter((row) => row.length);
    let [row, column] = [0, 0];
    map.addEventListener("blur", hide);
    map.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (event.key === "Escape") hide();
      if (!move || !rows.length) return;
      event.preventDefault();
      hide();
      row = Math.min(Math.max(row + move[0], 0), rows.length - 1);
      column = Math.min(Math.max(column + move[1], 0), rows[row].length - 1);
      const field = rows[row][column];
      const box = field.getBoundingClientRect();
      field.classList.add("here");
      show([{ text: field.dataset.tip }], box.right, box.bottom);
    });
  }
  // what the keyboard has brought up stays while the page follows it
  addEventListener("scroll", () => { if (!document.activeElement.matches(".plane, .map")) hide(); }, { passive: true });

  // lines on and off
  for (const legend of all(".legend")) {
    const figure = legend.closest("figure");
    const of = (name) => all("g[data-line]", figure).filter((group) => group.dataset.line === name);
    for (const key of all("button", legend)) {
      key.addEventListener("click", () => {
        const shown = key.getAttribute("aria-pressed") !== "true";
        key.setAttribute("aria-pressed", shown);
        of(key.dataset.line).forEach((group) => group.toggleAttribute("hidden", !shown));
      });
      const bring = (on) => all("g[data-line]", figure).forEach((group) =>
        group.classList.toggle("pale", on && group.dataset.line !== key.dataset.line));
      key.addEventListener("pointerenter", () => bring(true));
      key.addEventListener("pointerleave", () => bring(false));
    }
  }

  // filters: rows and episodes of a part
  for (const part of all("[data-part]")) {
    const form = part.querySelector(".filters");
    if (!form) continue;
    const filter = () => {
      const wanted = all("select", form).filter((choice) => choice.value);
      let [shown, total] = [0, 0];
      for (const item of all("[data-policy], [data-fault]", part)) {
        const keep = wanted.every((choice) => {
          const own = item.dataset[choice.dataset.filter];
          return own === undefined || own === choice.value;
        });
        item.hidden = !keep;
        if (item.matches(".episode")) { total += 1; shown += keep; }
      }
      form.querySelector(".count").textContent = wanted.length && total ? `${shown} of ${total} episodes` : "";
    };
    form.addEventListener("change", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  // tables in the order of a column
  const worth = (row, column) => {
    const text = row.cells[column].textContent.trim().replace(/\u2212/g, "-").replace(/,/g, "");
    const clocked = text.match(/^(\d+):(\d\d)$/);
    if (clocked) return 60 * Number(clocked[1]) + Number(clocked[2]);
    const value = parseFloat(text);
    return Number.isNaN(value) ? text : value;
  };
  const before = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const text = document.createElement("button");
      text.type = "button";
      text.append(...head.childNodes);
      head.append(text);
      text.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [worth(row, column), row]);
        rows.sort((a, b) => (up ? 1 : -1) * before(a[0], b[0]));
        body.append(...rows.map((entry) => entry[1]));
      });
    });
  }

  // commands to the clipboard
  for (const copy of all(".copy")) {
    copy.addEventListener("click", async () => {
      const code = copy.parentElement.querySelector("code");
      let done = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        done = "Selected";
      }
      copy.textContent = done;
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
  }

  // a link to an episode opens it; on paper everything is open
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  const folded = new Set();
  addEventListener("beforeprint", () => all("details.episode:not([open])").forEach((d) => { folded.add(d); d.open = true; }));
  addEventListener("afterprint", () => { folded.forEach((d) => { d.open = false; }); folded.clear(); });
})();
