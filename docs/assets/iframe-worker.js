/* Browsers start no workers for pages opened from disk; the search gets one that lives in a hidden frame instead. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const waiting = [];
      const frame = document.createElement("iframe");
      this.postMessage = (message) => waiting.push(message);
      frame.hidden = true;
      frame.title = "search";
      frame.srcdoc = "<!doctype html><title>search</title>";
      frame.addEventListener("load", () => {
        const inside = frame.contentWindow;
        const page = inside.document;
        const load = (source) =>
          new Promise((resolve, reject) => {
            const script = page.createElement("script");
            script.src = source;
            script.onload = resolve;
            script.onerror = reject;
            page.head.append(script);
          });
        inside.importScripts = (...sources) =>
          sources.reduce((before, source) => before.then(() => load(new URL(source, url).href)), Promise.resolve());
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        load(url).then(() => {
          this.postMessage = (data) => inside.dispatchEvent(new MessageEvent("message", { data }));
          waiting.forEach(this.postMessage);
        });
      }, { once: true });
      const attach = () => document.body.append(frame);
      document.body ? attach() : addEventListener("DOMContentLoaded", attach);
    }
    terminate() {}
  };
}
