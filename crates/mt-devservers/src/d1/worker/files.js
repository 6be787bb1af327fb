// The bucket that exports are read from and imports are written to: other paths, which are opened
// by a signature in the address and by nothing else.

import { site } from "./state.js";

/** How long a signed address is valid, as the service documents. */
const LIFETIME = 3_600_000;

const denied = () =>
  new Response("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", {
    status: 403,
    headers: { "content-type": "application/xml" },
  });

/** An address for `method` of a file. */
export function sign(request, name, method) {
  const signature = crypto.randomUUID().replaceAll("-", "");
  const until = Date.now() + LIFETIME;
  const file = site.files.get(name) ?? { signatures: [], bytes: undefined };
  file.signatures.push({ method, signature, until });
  site.files.set(name, file);
  const { origin } = new URL(request.url);
  return `${origin}/r2/${name}?X-Amz-Expires=3600&X-Amz-Signature=${signature}`;
}

export async function md5(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("MD5", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function files(request, url) {
  // The token is for the API only; a client that sends it on gives it away.
  if (request.headers.has("authorization")) return denied();
  const file = site.files.get(url.pathname.slice("/r2/".length));
  const signature = url.searchParams.get("X-Amz-Signature");
  const is = (one) =>
    one.method === request.method && one.signature === signature && one.until > Date.now();
  if (!file?.signatures.some(is)) return denied();
  if (request.method === "PUT") {
    file.bytes = await request.arrayBuffer();
    return new Response(null, { headers: { etag: `"${await md5(file.bytes)}"` } });
  }
  const headers = { "content-type": "application/sql", etag: `"${await md5(file.bytes)}"` };
  return new Response(file.bytes, { headers });
}
