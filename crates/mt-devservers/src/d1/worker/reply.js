// Cloudflare's envelope.

/** An answer that is an error. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** What the SQL did not allow. */
export const sqlRefused = (message) => new Refusal(400, 7500, message);

/** There is no such database. */
export const notFound = (key) =>
  new Refusal(404, 7404, `The database ${key} could not be found`);

/** What could not be read. */
export const malformed = (message) => new Refusal(400, 7400, message);

export function refused({ status, code, message }) {
  const errors = [{ code, message }];
  return Response.json({ result: null, success: false, errors, messages: [] }, { status });
}

export function done(result, info) {
  const answer = { result, success: true, errors: [], messages: [] };
  return Response.json(info === undefined ? answer : { ...answer, result_info: info });
}

/** The same with a result that is JSON already. */
export function doneWith(json) {
  const body = `{"result":${json},"success":true,"errors":[],"messages":[]}`;
  return new Response(body, { headers: { "content-type": "application/json" } });
}
