// The HTTP API as the canvas uses it. Errors are thrown as ApiError with words for people.

const CLIENT_HEADERS = { "X-Sluiceway-Request": "1" };

export class ApiError extends Error {
  /** @param {number} status 0 when the server could not be reached */
  constructor(status, title, detail, code) {
    super(detail || title);
    Object.assign(this, { status, title, detail, code });
  }

  get retryable() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

async function call(method, path, body, signal, headers = CLIENT_HEADERS) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "Not reachable", "The server does not answer. It is tried again by itself.");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new ApiError(answer.status, problem.title ?? `Error ${answer.status}`, problem.detail, problem.code);
}

const dashboardPath = (slug) => `/v1/dashboards/${encodeURIComponent(slug)}`;

/** The dashboard, and whether whoever looks may move its widgets. */
async function getDashboard(slug) {
  const [answer, session] = await Promise.all([
    call("GET", dashboardPath(slug)),
    call("GET", "/v1/session").catch(() => null),
  ]);
  return dashboardOf(answer, session?.permissions?.includes("dashboard:write") ?? false);
}

/** Where a canvas in the app gets everything from: the API, with the person's session. */
export const appSource = {
  getDashboard,
  runQuery: (_widget, query, signal) => call("POST", "/v1/query", query, signal),
  putLayout: (slug, version, clientId, layout) =>
    call("PUT", `/v1/dashboards/${encodeURIComponent(slug)}/layout`, { version, client_id: clientId, layout }),
  liveUrl: null,
  signedOut: () => ({
    title: "This page's session has ended",
    detail: "You signed out, or went to another workspace in another tab.",
    action: "Go on",
    href: `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`,
  }),
};

/** The same as another role sees it (`viewer`, or `viewer;regions=EU`): nothing can be moved. */
export function viewingSource(view) {
  const asked = `?as_role=${encodeURIComponent(view)}`;
  return {
    ...appSource,
    getDashboard: async (slug) => dashboardOf(await call("GET", dashboardPath(slug) + asked), false),
    runQuery: (_widget, query, signal) => call("POST", `/v1/query${asked}`, query, signal),
    putLayout: () => Promise.reject(new ApiError(403, "Read-only", "You look as another role: nothing can be moved.")),
  };
}

/** The same for whoever has opened a dashboard's link: `access` is what opening it gave. */
export function linkSource(access) {
  const headers = { Authorization: `Bearer ${access}` };
  return {
    async getDashboard() {
      const answer = await call("GET", "/v1/link/dashboard", undefined, undefined, headers);
      return { ...dashboardOf(answer, false), fixedTime: answer.fixed_time };
    },
    runQuery: (widget, query, signal) => call("POST", "/v1/link/query", { widget, query }, signal, headers),
    putLayout: () => Promise.reject(new ApiError(403, "Read-only", "A link changes nothing.")),
    liveUrl: `/v1/link/live?token=${encodeURIComponent(access)}`,
    /** Whether the link still works; null when the server cannot be asked. */
    async probe() {
      try {
        await call("GET", "/v1/link/dashboard", undefined, undefined, headers);
        return true;
      } catch (error) {
        return error.status === 401 || error.status === 404 ? false : null;
      }
    },
    signedOut: () => ({
      title: "This link is closed",
      detail: "It was opened a while ago, has ended, or was revoked.",
      action: "Open it again",
      href: location.href,
    }),
  };
}

/** What the canvas needs of an answer of /v1/dashboards/{slug}; layouts saved by hand win over the spec's. */
export function dashboardOf(answer, canEdit) {
  const { spec, layout } = answer;
  const { last, from, to } = spec.time ?? {};
  return {
    title: answer.title,
    description: answer.description,
    version: answer.version,
    layoutVersion: answer.layout_version,
    canEdit,
    range: from ? { from, to: to ?? new Date().toISOString() } : { last: last ?? "24h" },
    widgets: (spec.widgets ?? []).map((widget) => ({ ...widget, layout: layout[widget.id] })),
  };
}
