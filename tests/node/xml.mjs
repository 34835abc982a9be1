// FHIR.js as a second opinion on XML: each line has a resource in JSON and in XML, and is answered
// by the same resource in the other format.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Fhir } = createRequire(import.meta.url)("fhir");
const fhir = new Fhir();
for await (const line of createInterface({ input: process.stdin })) {
  const { json, xml } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ xml: fhir.jsonToXml(json), json: fhir.xmlToJson(xml) })}\n`);
}
