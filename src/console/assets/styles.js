// xterm.js writes <style> elements and style attributes, which our policy forbids: it allows no inline style at all.
// What a script sets through the object model is allowed, so that is what becomes of them here.
"use strict";

(() => {
  const create = document.createElement.bind(document);
  document.createElement = (name, ...rest) => {
    if (String(name).toLowerCase() !== "style") return create(name, ...rest);
    const element = create("template"); // shows nothing, and no policy looks at it
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets.push(sheet);
    let text = "";
    for (const property of ["textContent", "innerText"]) {
      Object.defineProperty(element, property, {
        get: () => text,
        set: (value) => {
          text = String(value);
          sheet.replaceSync(text);
        },
      });
    }
    const remove = element.remove.bind(element);
    element.remove = () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
      remove();
    };
    return element;
  };

  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
})();
