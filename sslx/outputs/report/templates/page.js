"use strict";
// Tables: a click on a head sorts by its column, another click the other way round. Floors stay at the end.
const numeric = (text) => parseFloat(text.replace(/,/g, ""));
for (const table of document.querySelectorAll("table:not(.neighbours)")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const isNumber = head.classList.contains("number");
    const first = isNumber ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") !== first ? first : first === "ascending" ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    const text = (row) => row.cells[column].textContent.trim();
    const isFloor = (row) => row.classList.contains("floor");
    const compared = (a, b) => {
      if (!isNumber) return sign * text(a).localeCompare(text(b), "en", { numeric: true });
      const [x, y] = [numeric(text(a)), numeric(text(b))];
      return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => isFloor(a) - isFloor(b) || compared(a, b));
    table.tBodies[0].append(...rows);
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
  }));
}

// The map: the pointer and the arrow keys choose a point, whose image and label are shown.
for (const map of document.querySelectorAll("figure.map")) {
  const plot = map.querySelector("svg"), tip = map.querySelector(".tip"), said = map.querySelector(".said");
  const dots = [...map.querySelectorAll("circle")];
  const at = (dot) => [dot.cx.baseVal.value, dot.cy.baseVal.value];
  let chosen = null;
  const choose = (dot) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = dot;
    tip.hidden = !dot;
    if (!dot) return;
    dot.classList.add("chosen");
    tip.querySelector("span").style.cssText = dot.dataset.at;
    tip.querySelector("b").textContent = said.textContent = dot.dataset.label;
    const box = dot.getBoundingClientRect(), around = map.getBoundingClientRect();
    tip.style.left = Math.min(box.right - around.left + 6, around.width - tip.offsetWidth) + "px";
    tip.style.top = Math.max(0, box.top - around.top - tip.offsetHeight / 2) + "px";
  };
  const nearest = (x, y, allowed, reach) => {
    let found = null, best = reach;
    for (const dot of dots) {
      const [a, b] = at(dot), distance = Math.hypot(a - x, b - y);
      if (distance < best && allowed(a - x, b - y)) [found, best] = [dot, distance];
    }
    return found;
  };
  const point = (event) => {
    const here = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
    choose(nearest(here.x, here.y, () => true, 14));
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", () => choose(null));
  plot.addEventListener("blur", () => choose(null));
  const steps = {
    ArrowLeft: (dx, dy) => -dx > Math.abs(dy), ArrowRight: (dx, dy) => dx > Math.abs(dy),
    ArrowUp: (dx, dy) => -dy > Math.abs(dx), ArrowDown: (dx, dy) => dy > Math.abs(dx),
  };
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") choose(null);
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = chosen ? nearest(...at(chosen), steps[event.key], Infinity) : dots[0];
    if (next) choose(next);
  });
}

// A link to a folded section unfolds it.
addEventListener("hashchange", () => {
  const folded = document.querySelector(`${location.hash} > details`);
  if (folded) folded.open = true;
});
