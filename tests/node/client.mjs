// What an EHR written with fhir-kit-client does with a FHIR base; one JSON object of what came out.
// node client.mjs BASE

import { Client } from 'fhir-kit-client';

const baseUrl = process.argv[2];
const client = new Client({ baseUrl });
const said = {};

const capability = await client.capabilityStatement();
said.fhirVersion = capability.fhirVersion;

const number = `kit-${Date.now()}`;
const patient = await client.create({
  resourceType: 'Patient',
  body: {
    resourceType: 'Patient',
    identifier: [{ system: 'urn:kit', value: number }],
    name: [{ text: '样本乙', family: '样本', given: ['乙'] }],
  },
});
const id = patient.id;
said.created = patient.resourceType;

const twice = await client.create({
  resourceType: 'Patient',
  body: { resourceType: 'Patient', identifier: [{ system: 'urn:kit', value: number }] },
  options: { headers: { 'If-None-Exist': `identifier=urn:kit|${number}` } },
});
said.conditionalCreate = twice.id === id;

const changed = await client.update({
  resourceType: 'Patient', id, body: { ...patient, gender: 'female' },
});
said.updated = changed.meta.versionId;

const patched = await client.patch({
  resourceType: 'Patient', id,
  jsonPatch: [{ op: 'replace', path: '/gender', value: 'male' }],
});
said.patched = [patched.gender, patched.meta.versionId];

const results = Array.from({ length: 7 }, (_, index) => ({
  resource: {
    resourceType: 'Observation',
    status: 'final',
    code: { coding: [{ system: 'urn:kit', code: 'k' }] },
    subject: { reference: `Patient/${id}` },
    effectiveDateTime: `2026-11-0${index + 1}`,
    valueQuantity: { value: 1.5 + index, unit: 'g/L' },
  },
  request: { method: 'POST', url: 'Observation' },
}));
const transaction = await client.transaction({
  body: { resourceType: 'Bundle', type: 'transaction', entry: results },
});
said.transaction = transaction.entry.map((entry) => entry.response.status.slice(0, 3));

const batch = await client.batch({
  body: {
    resourceType: 'Bundle', type: 'batch',
    entry: [
      { request: { method: 'GET', url: `Patient/${id}` } },
      { request: { method: 'GET', url: 'Patient/nobody-has-this-id' } },
    ],
  },
});
said.batch = batch.entry.map((entry) => entry.response.status.slice(0, 3));

let page = await client.search({
  resourceType: 'Observation',
  searchParams: { patient: id, _sort: '-date', _count: '3' },
});
const days = [];
while (page) {
  days.push(...page.entry.map((entry) => entry.resource.effectiveDateTime.slice(-2)));
  page = await client.nextPage({ bundle: page });
}
said.days = days;

const posted = await client.search({
  resourceType: 'Observation',
  searchParams: { patient: id, code: 'urn:kit|k' },
  options: { postSearch: true },
});
said.posted = posted.entry.length;

const history = await client.history({ resourceType: 'Patient', id });
said.history = history.entry.map((entry) => entry.resource.meta.versionId);
said.vread = (await client.vread({ resourceType: 'Patient', id, version: '1' })).gender ?? null;

const everything = await client.operation({
  name: 'everything', resourceType: 'Patient', id, method: 'GET',
});
said.everything = everything.entry.length;

const compartment = await client.compartmentSearch({
  resourceType: 'Observation', compartment: { resourceType: 'Patient', id },
  searchParams: { date: 'ge2026-11-06' },
});
said.compartment = compartment.entry.length;

try {
  await client.update({
    resourceType: 'Patient', id, body: { ...patient },
    options: { headers: { 'If-Match': 'W/"1"' } },
  });
} catch (error) {
  said.stale = [error.response.status, error.response.data.resourceType];
}
try {
  await client.search({ resourceType: 'Observation', searchParams: { patinet: id } });
} catch (error) {
  said.misspelt = [error.response.status, error.response.data.issue[0].expression[0]];
}

await client.delete({ resourceType: 'Observation', id: posted.entry[0].resource.id });
try {
  await client.read({ resourceType: 'Observation', id: posted.entry[0].resource.id });
} catch (error) {
  said.deleted = error.response.status;
}

console.log(JSON.stringify(said));
