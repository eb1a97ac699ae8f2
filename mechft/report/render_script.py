"""What a report does in the browser: colours, figures, saving and copying, and where the reader is.

It stands in the page's head, before the figures: each asks it for its colours when it is drawn. Nothing
is kept after the page is closed, and nothing is fetched.
"""

from __future__ import annotations

SCRIPT = r"""
"use strict";
const report = (() => {
  const root = document.documentElement;
  const config = { // plotly's own buttons for zooming only: one of the others sends a figure to its makers
    displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const made = new Map();    // figures by id, as they were made: in light colours
  const shades = new Map();  // colours on dark paper by colours on white
  const pen = document.createElement("canvas").getContext("2d");
  let chosen = false;        // whether the reader has chosen the colours
  let printing = false;
  root.dataset.theme = system.matches ? "dark" : "light";

  // Colours

  const hex = (...parts) => "#" + parts.map(x => Math.round(x).toString(16).padStart(2, "0")).join("");

  function parsed(text) { // red, green, blue, and a function that adds the opacity; null if no colour
    pen.fillStyle = "#010203"; pen.fillStyle = text;
    const found = pen.fillStyle;
    if (found === "#010203") return null;
    if (found[0] === "#") {
      return [...[1, 3, 5].map(i => parseInt(found.slice(i, i + 2), 16)), hex];
    }
    const [r, g, b, opacity] = found.match(/[\d.]+/g).map(Number);
    return [r, g, b, (...c) => `rgba(${c.map(Math.round).join(",")},${opacity})`];
  }

  function luminance(rgb) { // WCAG 2
    const [r, g, b] = rgb.map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  }

  const own = name => parsed(getComputedStyle(root).getPropertyValue(name).trim()).slice(0, 3);

  function darkened(text) { // a colour made for white paper, as it is drawn on dark paper
    const colour = parsed(text);
    if (!colour) return text;
    let rgb = colour.slice(0, 3);
    const paper = own("--paper"), ink = own("--ink");
    if (Math.max(...rgb) - Math.min(...rgb) < 16) { // greys change places: white is paper, black is ink
      const white = ((rgb[0] + rgb[1] + rgb[2]) / 765) ** 1.5; // middle greys a little lighter
      rgb = rgb.map((_, i) => ink[i] + white * (paper[i] - ink[i]));
    } else { // others stay, but for white mixed in until they stand out 4:1
      const least = 4 * (luminance(paper) + .05) - .05;
      while (luminance(rgb) < least) rgb = rgb.map(x => x + .05 * (255 - x));
    }
    return colour[3](...rgb);
  }

  function shade(text) {
    if (!shades.has(text)) shades.set(text, darkened(text));
    return shades.get(text);
  }

  function recoloured(node, key = "") {
    if (Array.isArray(node)) return node.map(item => recoloured(item, key));
    if (node && typeof node === "object") {
      return Object.fromEntries(Object.entries(node).map(([k, v]) => [k, recoloured(v, k)]));
    }
    if (typeof node !== "string") return node;
    if (/color(way)?$/i.test(key)) return shade(node);
    return node.replace(/(color:\s*)(#[0-9a-f]{6})/gi, (_, before, value) => before + shade(value));
  }

  // Figures

  function light(id) { return structuredClone(made.get(id)); }

  function shown(id, figure) { // a figure as it is drawn now
    if (figure) made.set(id, figure);
    const dark = root.dataset.theme === "dark";
    const {data, layout} = dark ? recoloured(made.get(id)) : light(id);
    if (dark) {
      layout.paper_bgcolor ??= hex(...own("--paper"));
      layout.plot_bgcolor ??= hex(...own("--paper"));
      layout.font = {color: hex(...own("--ink")), ...layout.font};
    }
    layout.uirevision ??= "kept"; // zoom and hidden lines stay when colours change
    if (printing) layout.width = 1000;
    return {data, layout, config};
  }

  function redraw() {
    return Promise.all([...made.keys()].map(id => {
      const {data, layout} = shown(id);
      return Plotly.react(id, data, layout, config);
    }));
  }

  function setTheme(name) {
    if (name === root.dataset.theme) return;
    root.dataset.theme = name;
    document.getElementById("theme").setAttribute("aria-pressed", name === "dark");
    redraw();
  }

  // Saving and copying

  function say(words) { document.getElementById("status").textContent = words; }

  function save(file, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    say("Saved " + file);
  }

  function saveTable(button) {
    const text = JSON.parse(button.closest(".table").querySelector("script").textContent);
    save(button.dataset.file, new Blob([text], {type: "text/csv;charset=utf-8"}));
  }

  async function saveFigure(button) { // in light colours always: they are for papers and slides
    const {figure, format, file} = button.dataset;
    const {width, height} = document.getElementById(figure).getBoundingClientRect();
    const scale = format === "png" ? 2 : 1;
    const address = await Plotly.toImage(light(figure), {format, width, height, scale});
    const [head, body] = [address.slice(0, address.indexOf(",")), address.slice(address.indexOf(",") + 1)];
    const bytes = head.endsWith("base64")
      ? Uint8Array.from(atob(body), x => x.charCodeAt(0)) : decodeURIComponent(body);
    save(file, new Blob([bytes], {type: head.slice(5).split(";")[0]}));
  }

  async function copy(button) {
    const code = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch { // no permission, or no such thing on pages from a file
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
      getSelection().removeAllRanges();
    }
    button.textContent = "Copied";
    say("Copied");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  // Where the reader is

  function here() { // the section that the upper third of the window shows
    const sections = [...document.querySelectorAll("main > section")];
    const top = section => section.getBoundingClientRect().top;
    const end = innerHeight + scrollY >= root.scrollHeight - 2;
    const asked = document.getElementById(location.hash.slice(1));
    // At the end of the page a section may be too short to get up there.
    if (end && sections.includes(asked) && top(asked) >= 0 && top(asked) < innerHeight) return asked;
    if (end && scrollY > 0) return sections.at(-1);
    return sections.filter(section => top(section) <= innerHeight / 3).at(-1) ?? sections[0];
  }

  function mark() {
    const nav = document.querySelector("nav"), section = here();
    for (const link of nav.querySelectorAll("a")) {
      const current = section && link.hash === "#" + section.id;
      if (current === link.hasAttribute("aria-current")) continue;
      if (current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      if (current) {
        nav.scrollTop = link.offsetTop - nav.clientHeight / 2;
        nav.scrollLeft = link.offsetLeft - nav.clientWidth / 2 + link.offsetWidth / 2;
      }
    }
  }

  // Paper: light, as wide as a page, with all that is folded open

  let before = null;
  function beginPrint() {
    const folded = [...document.querySelectorAll("details:not([open])")];
    before = {theme: root.dataset.theme, folded};
    folded.forEach(part => { part.open = true; });
    printing = true;
    root.dataset.theme = "light";
    redraw();
  }
  function endPrint() {
    if (!before) return;
    before.folded.forEach(part => { part.open = false; });
    printing = false;
    root.dataset.theme = before.theme;
    before = null;
    redraw();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const theme = document.getElementById("theme");
    theme.setAttribute("aria-pressed", root.dataset.theme === "dark");
    theme.addEventListener("click", () => {
      chosen = true;
      setTheme(root.dataset.theme === "dark" ? "light" : "dark");
    });
    system.addEventListener("change", () => {
      if (!chosen && !printing) setTheme(system.matches ? "dark" : "light");
    });
    document.addEventListener("click", event => {
      const button = event.target.closest("button");
      if (button?.matches(".csv")) saveTable(button);
      if (button?.matches(".image")) saveFigure(button);
      if (button?.matches(".copy")) copy(button);
    });
    let waiting = false;
    const later = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    };
    addEventListener("scroll", later, {passive: true});
    addEventListener("resize", later);
    addEventListener("hashchange", later);
    addEventListener("beforeprint", beginPrint);
    addEventListener("afterprint", endPrint);
    mark();
  });
  return {shown};
})();
"""
"""The page's own script; ``report.shown(id, figure)`` gives a figure in the colours of the moment."""
