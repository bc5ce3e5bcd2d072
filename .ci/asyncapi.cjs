// Reads the AsyncAPI document whose path is given; exit code 1 with every error in it.
const fs = require("node:fs");
const { Parser } = require("@asyncapi/parser");
const { AvroSchemaParser } = require("@asyncapi/avro-schema-parser");

const ERROR = 0;

// What is wrong with the payloads. The parser of documents looks at none of another dialect than its own.
async function wrongPayloads(text) {
    const wrong = [];
    for (const [name, { schemaFormat, schema }] of Object.entries(JSON.parse(text).components.schemas)) {
        if (!schemaFormat) continue;
        const path = ["components", "schemas", name, "schema"];
        const found = await AvroSchemaParser().validate({ data: schema, schemaFormat, path });
        wrong.push(...(found ?? []).map(({ message }) => ({ message, path })));
    }
    return wrong;
}

async function main() {
    const text = fs.readFileSync(process.argv[2], "utf8");
    const { document, diagnostics } = await new Parser().parse(text);
    const errors = diagnostics.filter((found) => found.severity === ERROR);
    if (errors.length === 0) errors.push(...(await wrongPayloads(text)));
    for (const { message, path } of errors) console.error(`asyncapi: ${path.join(".")}: ${message}`);
    if (errors.length > 0 || !document) process.exit(1);
    const notes = diagnostics.map((found) => `${found.code} at ${found.path.join(".") || "the document"}`);
    const [channels, operations, messages] =
        [document.channels(), document.operations(), document.components().messages()].map((all) => all.all().length);
    const version = document.version();
    console.log(`asyncapi ${version}: right; ${channels} channels, ${operations} operations, ${messages} messages`);
    if (notes.length > 0) console.log(`not wrong, but told: ${notes.join("; ")}`);
}

main().catch((error) => {
    console.error(`asyncapi: ${error.stack}`);
    process.exit(1);
});
