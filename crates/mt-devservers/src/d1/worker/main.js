// D1's REST paths over SQLite-backed Durable Objects: the engine is the one that D1 runs on, the
// paths are ours. What is said here of the service comes from its documentation and from trying.

import { account } from "./api.js";
import { files } from "./files.js";
import { Refusal, refused } from "./reply.js";

export { Database } from "./database.js";
export { Registry } from "./registry.js";

export default {
  async fetch(request, env) {
    try {
      const url = new URL(request.url);
      if (url.pathname === "/ready") return new Response(env.SETTINGS.nonce);
      if (url.pathname.startsWith("/r2/")) return await files(request, url);
      return await account(request, url, env);
    } catch (error) {
      if (error instanceof Refusal) return refused(error);
      // What the engine itself gives up on is told without its reason, as the service does.
      const known = /^internal error; reference = \w+$/.test(error.message);
      const reference = crypto.randomUUID().replaceAll("-", "").slice(0, 24);
      const message = known ? error.message : `internal error; reference = ${reference}`;
      if (!known) console.error(error.stack ?? error);
      return refused(new Refusal(500, 7500, message));
    }
  },
};
