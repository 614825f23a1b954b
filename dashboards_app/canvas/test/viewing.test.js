// Looking at a dashboard as another role: everything is asked with that role, and nothing can be moved.
import assert from "node:assert/strict";
import test from "node:test";
import { viewingSource } from "../src/lib/api.js";
import { provenance } from "../src/lib/trust.js";

const ANSWER = { title: "Board", description: "", version: 1, layout_version: 1, layout: {}, spec: { widgets: [] } };

test("the role goes with every question", async () => {
  const asked = [];
  globalThis.fetch = async (path, options) => {
    asked.push([options.method, path]);
    return { ok: true, status: 200, json: async () => ANSWER };
  };
  const source = viewingSource("viewer;regions=EU & US");
  const found = await source.getDashboard("board");
  await source.runQuery("w", { pipeline: "sales" });
  assert.equal(found.canEdit, false);
  const role = "?as_role=viewer%3Bregions%3DEU%20%26%20US";
  assert.deepEqual(asked, [["GET", `/v1/dashboards/board${role}`], ["POST", `/v1/query${role}`]]);
  await assert.rejects(() => source.putLayout("board", 1, "c", {}), { status: 403 });
});

test("what a rule keeps from view is told where the number comes from", () => {
  const rows = (answer) => provenance(answer, 0).flatMap((group) => group.rows.map(([name]) => name));
  assert.ok(!rows({ columns: [{ name: "a", masked: null }], restricted: false }).includes("Kept from you"));
  const told = provenance({ columns: [{ name: "email", masked: "hash" }], restricted: true }, 0).at(-1).rows;
  assert.deepEqual(told.filter(([name]) => name === "Masked"), [["Masked", "email"]]);
  assert.ok(told.some(([name]) => name === "Kept from you"));
});
