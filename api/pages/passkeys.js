// Passkeys: asks the platform for a challenge, the browser for its answer, and hands it back. Buttons marked
// with data-passkey are shown where the browser can do it; everything else on these pages needs no script.

const fromBase64 = (text) => {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
};

const toBase64 = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes)))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=+$/, "");

const decoded = (options) => {
  const found = { ...options, challenge: fromBase64(options.challenge) };
  for (const list of ["allowCredentials", "excludeCredentials"]) {
    if (found[list]) found[list] = found[list].map((held) => ({ ...held, id: fromBase64(held.id) }));
  }
  if (found.user) found.user = { ...found.user, id: fromBase64(found.user.id) };
  return found;
};

const encoded = (credential) => {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = toBase64(credential.response[name]);
  }
  if (credential.response.getTransports) response.transports = credential.response.getTransports();
  return {
    id: credential.id,
    rawId: toBase64(credential.rawId),
    type: credential.type,
    response,
    clientExtensionResults: credential.getClientExtensionResults(),
  };
};

const send = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Sluiceway-Request": "1" },
    body: JSON.stringify(body),
  });
  const found = answer.status === 204 ? null : await answer.json();
  if (answer.ok) return found;
  if (found.confirm_at) location.assign(`${found.confirm_at}?next=${encodeURIComponent(location.pathname)}`);
  throw new Error(found.detail);
};

const get = async (asked) => encoded(await navigator.credentials.get({ publicKey: decoded(asked.options) }));

const ways = {
  "sign-in": async () => {
    const asked = await send("/v1/session/passkey-options", {});
    const remember = document.querySelector("input[name=remember]")?.checked ?? false;
    await send("/v1/session/passkey", { step: asked.step, credential: await get(asked), remember });
  },
  second: async (button) => {
    const after = button.dataset.step;
    const asked = await send("/v1/session/passkey-options", { step: after });
    await send("/v1/session/passkey", { step: asked.step, credential: await get(asked), after });
  },
  confirm: async () => {
    const asked = await send("/v1/session/confirmation/passkey-options", {});
    await send("/v1/session/confirmation", { passkey: { step: asked.step, credential: await get(asked) } });
  },
  new: async () => {
    const asked = await send("/v1/me/passkeys/options", {});
    const made = await navigator.credentials.create({ publicKey: decoded(asked.options) });
    const name = document.querySelector("input[name=passkey-name]").value || "Passkey";
    await send("/v1/me/passkeys", { step: asked.step, credential: encoded(made), name });
  },
};

const said = (error) => {
  if (error.name === "NotAllowedError") return "The passkey was not used: it was refused, or took too long.";
  if (error.name === "InvalidStateError") return "This device has a passkey for you already.";
  return error.message;
};

const start = async (button) => {
  const wrong = document.getElementById("wrong");
  wrong.hidden = true;
  button.disabled = true;
  try {
    await ways[button.dataset.passkey](button);
    // Who is signed in and wants nowhere else is sent on from there to their start page.
    location.assign(button.dataset.next === "/" ? "/sign-in" : button.dataset.next);
  } catch (error) {
    wrong.textContent = said(error);
    wrong.hidden = false;
    button.disabled = false;
    button.focus();
  }
};

if (window.PublicKeyCredential && window.isSecureContext) {
  for (const shown of document.querySelectorAll("[data-passkey], [data-with-passkey]")) shown.hidden = false;
  for (const button of document.querySelectorAll("button[data-passkey]")) {
    button.addEventListener("click", () => start(button));
  }
}
