/* Search in pages opened from disk: browsers refuse workers there, so the script of one runs in a hidden frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      const url = new URL(script, location.href).href;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script>
        window.postMessage = (data) => parent.dispatchEvent(new CustomEvent("frame-worker", { detail: { url: ${JSON.stringify(url)}, data } }));
        window.importScripts = (...urls) => Promise.all(urls.map((one) => new Promise((done, failed) => {
          const part = Object.assign(document.createElement("script"), { src: new URL(one, ${JSON.stringify(url)}).href, onload: done, onerror: failed });
          document.head.append(part);
        })));
      </` + `script><script src=${JSON.stringify(url)}></` + `script>`;
      this.ready = new Promise((done) => { frame.onload = () => done(frame.contentWindow); });
      this.heard = ({ detail }) => {
        if (detail.url !== url) return;
        const event = new MessageEvent("message", { data: detail.data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      addEventListener("frame-worker", this.heard);
      this.frame = frame;
      if (document.body) document.body.append(frame);
      else addEventListener("DOMContentLoaded", () => document.body.append(frame));
    }
    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      removeEventListener("frame-worker", this.heard);
      this.frame.remove();
    }
  };
}
