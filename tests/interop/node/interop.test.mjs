// The unmodified official Node SDK against `uploaderd emulator`: what it sends is taken and judged.
//
// UPLOADERD names the executable; by default `uploaderd` is looked for on the PATH.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import OpenAI, { toFile } from "openai";

const KEY = "sk-interop";
const DATA = randomBytes(1_300_000);
const MD5 = createHash("md5").update(DATA).digest("hex");
const PART_BYTES = 300_000;

let folder;
let emulator;
let baseURL;
let client;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "uploaderd-interop-"));
  const words = ["emulator", "--listen", "127.0.0.1:0", "--store", join(folder, "store")];
  emulator = spawn(process.env.UPLOADERD ?? "uploaderd", [...words, "--api-key", KEY], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise((resolve, reject) => {
    emulator.once("error", reject);
    emulator.once("exit", (code) => reject(new Error(`the emulator ended with ${code}`)));
    createInterface({ input: emulator.stdout }).once("line", resolve);
  });
  assert.match(line, /^listening on http:\/\/127\.0\.0\.1:\d+\/v1$/);
  baseURL = line.slice("listening on ".length);
  client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 0 });
});

after(async () => {
  if (emulator?.exitCode === null && emulator.pid !== undefined) {
    emulator.removeAllListeners("exit");
    const ended = new Promise((resolve) => emulator.once("exit", resolve));
    emulator.kill("SIGTERM");
    assert.equal(await ended, 0);
  }
  await rm(folder, { recursive: true, force: true });
});

async function open(bytes = DATA.length) {
  const fields = { filename: "a.bin", mime_type: "application/octet-stream", purpose: "user_data" };
  return (await client.uploads.create({ ...fields, bytes })).id;
}

async function part(uploadId, data) {
  return (await client.uploads.parts.create(uploadId, { data: await toFile(data, "part") })).id;
}

async function control(path, body) {
  const url = baseURL.replace(/\/v1$/, `/_emulator/${path}`);
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const reply = await fetch(url, options);
  assert.equal(reply.status, 200);
  return reply.json();
}

async function checkFile(upload, data = DATA) {
  assert.equal(upload.status, "completed");
  assert.equal(upload.file.bytes, data.length);
  const content = await readFile(join(folder, "store", "files", upload.file.id, "content"));
  assert.ok(content.equals(data));
}

function refused(kind, facts = {}) {
  return (error) => {
    assert.ok(error instanceof kind, `${error}`);
    for (const [name, value] of Object.entries(facts)) assert.equal(error[name], value);
    return true;
  };
}

test("parts from buffers make the file", async () => {
  const id = await open();
  const partIds = [];
  for (let at = 0; at < DATA.length; at += PART_BYTES) {
    partIds.push(await part(id, DATA.subarray(at, at + PART_BYTES)));
  }
  const upload = await client.uploads.complete(id, { part_ids: partIds, md5: MD5 });
  await checkFile(upload);
});

test("a part from a stream is sent in chunks and accepted", async () => {
  const path = join(folder, "data.bin");
  await writeFile(path, DATA);
  const id = await open();
  const made = await client.uploads.parts.create(id, { data: createReadStream(path) });
  assert.equal(made.object, "upload.part");
  const state = await control("state");
  const sent = state.log.find((one) => one.part_id === made.id);
  assert.deepEqual([sent.chunked, sent.bytes_received], [true, DATA.length]);
  const upload = await client.uploads.complete(id, { part_ids: [made.id], md5: MD5 });
  await checkFile(upload);
});

test("parts sent at once and last first are put in the order of complete", async () => {
  const id = await open();
  const pieces = [];
  for (let at = 0; at < DATA.length; at += PART_BYTES) {
    pieces.unshift(DATA.subarray(at, at + PART_BYTES));
  }
  const partIds = await Promise.all(pieces.map((piece) => part(id, piece)));
  const upload = await client.uploads.complete(id, { part_ids: partIds.reverse(), md5: MD5 });
  await checkFile(upload);
});

test("a wrong md5 is a BadRequestError that names it", async () => {
  const id = await open();
  const partIds = [await part(id, DATA)];
  const wrong = { part_ids: partIds, md5: "0".repeat(32) };
  const facts = { status: 400, param: "md5", type: "invalid_request_error" };
  await assert.rejects(client.uploads.complete(id, wrong), refused(OpenAI.BadRequestError, facts));
  await checkFile(await client.uploads.complete(id, { part_ids: partIds }));
});

test("missing and unknown parts are BadRequestErrors", async () => {
  const id = await open();
  const first = await part(id, DATA.subarray(0, PART_BYTES));
  const last = await part(id, DATA.subarray(PART_BYTES));
  for (const partIds of [[first], [], [first, last, "part_unknown"]]) {
    await assert.rejects(
      client.uploads.complete(id, { part_ids: partIds }),
      refused(OpenAI.BadRequestError, { param: "part_ids" }),
    );
  }
  await checkFile(await client.uploads.complete(id, { part_ids: [first, last] }));
});

test("a part beyond the declared bytes is refused as it is added", async () => {
  const id = await open(10);
  await assert.rejects(part(id, Buffer.alloc(11)), refused(OpenAI.BadRequestError));
});

test("a cancelled upload takes no part", async () => {
  const id = await open();
  assert.equal((await client.uploads.cancel(id)).status, "cancelled");
  const facts = { code: "upload_not_pending" };
  await assert.rejects(part(id, DATA), refused(OpenAI.BadRequestError, facts));
  await assert.rejects(client.uploads.cancel("upload_none"), refused(OpenAI.NotFoundError));
});

test("a second complete is refused", async () => {
  const id = await open();
  const partIds = [await part(id, DATA)];
  await client.uploads.complete(id, { part_ids: partIds });
  await assert.rejects(
    client.uploads.complete(id, { part_ids: partIds }),
    refused(OpenAI.BadRequestError, { code: "upload_not_pending" }),
  );
});

test("files are listed page by page, retrieved, read and deleted", async () => {
  const made = [];
  for (let number = 0; number < 3; number += 1) {
    const file = await toFile(DATA.subarray(0, 100), `${number}.png`);
    made.push(await client.files.create({ file, purpose: "vision" }));
    await control("clock", { advance_s: 1 });
  }
  const listed = [];
  for await (const file of client.files.list({ purpose: "vision", limit: 2, order: "asc" })) {
    listed.push(file.id);
  }
  assert.deepEqual(
    listed,
    made.map((file) => file.id),
  );
  assert.equal((await client.files.retrieve(made[0].id)).filename, "0.png");
  const content = Buffer.from(await (await client.files.content(made[0].id)).arrayBuffer());
  assert.ok(content.equals(DATA.subarray(0, 100)));
  assert.equal((await client.files.delete(made[0].id)).deleted, true);
  await assert.rejects(client.files.retrieve(made[0].id), refused(OpenAI.NotFoundError));
});

test("a wrong key is an AuthenticationError", async () => {
  const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 });
  const facts = { status: 401, code: "invalid_api_key" };
  await assert.rejects(
    (async () => {
      for await (const file of stranger.files.list()) assert.fail(file.id);
    })(),
    refused(OpenAI.AuthenticationError, facts),
  );
});

test("a lost reply makes the SDK send the part again, and leaves an orphan", async () => {
  const id = await open();
  await control("faults", { faults: ["call=part,action=lose,times=1"] });
  const patient = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 2 });
  const made = await patient.uploads.parts.create(id, { data: await toFile(DATA, "part") });
  await control("faults", { faults: [] });
  await checkFile(await client.uploads.complete(id, { part_ids: [made.id], md5: MD5 }));
  const state = await control("state");
  const upload = state.uploads.find((one) => one.id === id);
  assert.equal(upload.part_requests, 2);
  assert.deepEqual(
    upload.parts.map((one) => one.listed),
    [false, true],
  );
});
