/** Calls of the HTTP API, its errors, and whether it answers at all. */

import { makeComparable } from "./format.js";

/** @typedef {import("./types.js").Search} Search */
/** @typedef {import("./types.js").Front} Front */
/** @typedef {import("./types.js").Supernet} Supernet */
/** @typedef {import("./types.js").Description} Description */

/**
 * @typedef {Object} Said  the body of such an answer
 * @property {string} type
 * @property {string} title
 * @property {string} detail
 * @property {string|null} field
 * @property {unknown} value
 * @property {string|null} remedy
 */

/** What the service answered instead of what was asked for (RFC 9457). */
export class Problem extends Error {
  /** @param {number} status @param {Partial<Said>|null} body */
  constructor(status, body) {
    super(body?.detail || body?.title || `The service answered ${status}.`);
    this.status = status;
    this.kind = String(body?.type ?? "").split("/").pop() ?? "";
    this.field = body?.field ?? null;
    this.value = body?.value ?? null;
    this.remedy = body?.remedy ?? null;
    this.body = body;
  }
}

/** The service does not answer. */
export class Offline extends Error {
  constructor() {
    super("The service does not answer.");
    this.remedy = "It may have stopped or be restarting; the page goes on by itself when it is back.";
  }
}

const RETRY_MS = 1500;
let online = true;

/** Whether the service answered last time. */
export function isOnline() {
  return online;
}

/** @param {boolean} now */
function setOnline(now) {
  if (now === online) return;
  online = now;
  window.dispatchEvent(new CustomEvent("salnas-online", { detail: now }));
  if (!now) setTimeout(probe, RETRY_MS);
}

/** Do `work` once, when the service answers again. @param {() => void} work */
export function whenBack(work) {
  const back = () => {
    if (!online) return;
    window.removeEventListener("salnas-online", back);
    work();
  };
  window.addEventListener("salnas-online", back);
}

async function probe() {
  try {
    const answer = await fetch("healthz", { cache: "no-store" });
    if (answer.ok) return setOnline(true);
  } catch {
    // Still away.
  }
  setTimeout(probe, RETRY_MS);
}

/**
 * Ask the service; raises Problem, Offline, or AbortError when `signal` says so.
 * @param {string} path
 * @param {RequestInit} [options]
 */
export async function ask(path, options = {}) {
  /** @type {Response} */
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") throw error;
    setOnline(false);
    throw new Offline();
  }
  setOnline(true);
  if (answer.ok) return answer;
  const text = await answer.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not from the service itself.
  }
  throw new Problem(answer.status, body);
}

/** @param {string} path @param {AbortSignal} [signal] @returns {Promise<any>} */
async function get(path, signal) {
  return (await ask(path, { signal, headers: { accept: "application/json" } })).json();
}

/**
 * @param {string} path
 * @param {Object<string, unknown>} body
 * @param {{signal?: AbortSignal, key?: string}} [more] `key` makes the call safe to repeat
 * @returns {Promise<any>}
 */
async function post(path, body, { signal, key } = {}) {
  /** @type {Record<string, string>} */
  const headers = { "content-type": "application/json" };
  if (key) headers["idempotency-key"] = key;
  return (await ask(path, { method: "POST", body: JSON.stringify(body), headers, signal })).json();
}

/** A name for a request that nobody has used. */
export function newKey() {
  return crypto.randomUUID ? crypto.randomUUID() : Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
}

/** @returns {Promise<Supernet[]>} */
export async function listSupernets() {
  return (await get("v1/supernets")).supernets;
}

/** @param {string} name @returns {Promise<import("./types.js").Space>} */
export function getSpace(name) {
  return get(`v1/spaces/${encodeURIComponent(name)}`);
}

/** @param {{state?: string, pageToken?: string, pageSize?: number}} [filter] @returns {Promise<{searches: Search[], next_page_token: string|null}>} */
export function listSearches({ state, pageToken, pageSize } = {}) {
  const query = new URLSearchParams();
  if (state) query.set("state", state);
  if (pageToken) query.set("page_token", pageToken);
  if (pageSize) query.set("page_size", String(pageSize));
  return get(`v1/searches?${query}`);
}

/** @param {string} id @param {AbortSignal} [signal] @returns {Promise<Search>} */
export function getSearch(id, signal) {
  return get(`v1/searches/${encodeURIComponent(id)}`, signal);
}

const EVENT_PAGES = 20;

/** What happened to a search, from its beginning. @param {string} id @returns {Promise<import("./types.js").SearchEvent[]>} */
export async function listEvents(id) {
  const found = [];
  let token = null;
  for (let page = 0; page < EVENT_PAGES; page += 1) {
    const query = new URLSearchParams({ page_size: "200", ...(token ? { page_token: token } : {}) });
    const answer = await get(`v1/searches/${encodeURIComponent(id)}/events?${query}`);
    found.push(...answer.events);
    token = answer.next_page_token;
    if (!token) break;
  }
  return found;
}

/** @param {Object<string, unknown>} request @param {string} [key] @returns {Promise<Search>} */
export function createSearch(request, key = newKey()) {
  return post("v1/searches", request, { key });
}

/** @param {string} id @param {"cancel"|"resume"|"fork"} verb @param {Object<string, unknown>} [body] @param {string} [key] @returns {Promise<Search>} */
export function changeSearch(id, verb, body = {}, key = undefined) {
  return post(`v1/searches/${encodeURIComponent(id)}:${verb}`, body, { key });
}

/** @param {string} id @param {AbortSignal} [signal] @returns {Promise<Front>} */
export async function getFront(id, signal) {
  const front = await get(`v1/searches/${encodeURIComponent(id)}/front`, signal);
  makeComparable(front.subnets);
  return front;
}

/** @param {string} id */
export function frontUrl(id) {
  return `v1/searches/${encodeURIComponent(id)}/front`;
}

/** @param {string} arch @param {AbortSignal} [signal] @returns {Promise<Description>} */
export function describe(arch, signal) {
  return post("v1/subnets:describe", { arch }, { signal });
}

/**
 * The best subnets within bounds, from a new short search.
 * @param {{constraints: string[], accuracy_metric: string, device: string, k?: number}} wanted
 * @returns {Promise<import("./types.js").Subnet[]>}
 */
export async function queryFresh(wanted) {
  return (await post("v1/subnets:query", { ...wanted, fresh: true })).subnets;
}

/**
 * The best subnets within bounds, from the stored front.
 * @param {{constraints: string[], k?: number}} wanted
 * @returns {Promise<import("./types.js").Subnet[]>}
 */
export async function queryStored(wanted) {
  return (await post("v1/subnets:query", wanted)).subnets;
}

/** Reference models that were evaluated and timed like the subnets. @returns {Promise<import("./types.js").Model[]>} */
export async function listModels() {
  return (await get("v1/models")).models;
}

/** @returns {Promise<import("./types.js").Device[]>} */
export async function listDevices() {
  return (await get("v1/devices")).devices;
}

/** @param {string} id @returns {Promise<import("./types.js").Device>} */
export function getDevice(id) {
  return get(`v1/devices/${encodeURIComponent(id)}`);
}

/** @param {FormData} form @returns {Promise<import("./types.js").Device>} */
export async function registerDevice(form) {
  return (await ask("v1/devices", { method: "POST", body: form })).json();
}

/** @param {string} id */
export function removeDevice(id) {
  return ask(`v1/devices/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** A zip that times subnets on another machine; made when first asked for. @param {string} name of the device @returns {Promise<Blob>} */
export async function fetchPack(name) {
  return (await ask(`v1/devices/${encodeURIComponent(name)}/pack`)).blob();
}

/** @param {string} arch @returns {Promise<import("./types.js").Export>} */
export function createExport(arch) {
  return post("v1/exports", { arch, format: "onnx" }, { key: newKey() });
}

/** @param {string} id @returns {Promise<import("./types.js").Export>} */
export function getExport(id) {
  return get(`v1/exports/${encodeURIComponent(id)}`);
}

const FINAL = ["succeeded", "failed", "cancelled"];

/** @param {string} state */
export function isFinal(state) {
  return FINAL.includes(state);
}

const EVENTS = ["queued", "running", "progress", "succeeded", "failed", "cancelled"];

/**
 * Follow a search until it ends; every change is given to `onchange`, every report to `onprogress`. Connects again
 * by itself, also to a service that was started anew, and asks for the search after each connection, so that nothing
 * is missed. Returns a function that stops following.
 *
 * @param {string} id
 * @param {{onchange: (search: Search) => void, onprogress?: (progress: import("./types.js").Progress) => void}} handlers
 */
export function followSearch(id, { onchange, onprogress }) {
  let stopped = false;
  /** @type {EventSource} */
  let source;
  let timer = 0;
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    source.close();
  };
  const refresh = async () => {
    try {
      const search = await getSearch(id);
      if (stopped) return;
      if (isFinal(search.state)) stop();
      onchange(search);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) stop();
    }
  };
  const connect = () => {
    source = new EventSource(`v1/searches/${encodeURIComponent(id)}/events`);
    source.addEventListener("open", refresh);
    for (const kind of EVENTS) {
      source.addEventListener(kind, (event) => {
        if (stopped) return;
        if (kind === "progress") onprogress?.(JSON.parse(event.data));
        else refresh();
      });
    }
    source.addEventListener("error", () => {
      if (stopped) return;
      noticeAbsence();
      // The browser connects again after a broken stream, but gives up where the address answers with an error.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(() => !stopped && connect(), RETRY_MS);
    });
  };
  connect();
  return stop;
}

/** Ask whether the service answers, where something else went wrong. */
export function noticeAbsence() {
  return fetch("healthz", { cache: "no-store" }).then((answer) => setOnline(answer.ok), () => setOnline(false));
}
