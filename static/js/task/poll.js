// The events of a stream as an answer that ends, for where streams do not get through.

const PATIENCE = 20000;

// What the server has to say after the cursor of `url`: `{status, events}`, status 0 for no answer.
export async function ask(url) {
  const once = new URL(url);
  once.searchParams.set("once", "1");
  try {
    const answer = await fetch(once, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    const events = answer.ok ? parse(await answer.text()) : [];
    return { status: answer.ok && !events.length ? 0 : answer.status, events };
  } catch {
    return { status: 0, events: [] };
  }
}

function parse(text) {
  const events = [];
  let lastEventId = "";
  for (const block of text.split("\n\n")) {
    let type = "";
    const data = [];
    for (const line of block.split("\n")) {
      const at = line.indexOf(":");
      const [field, value] = [line.slice(0, at), line.slice(at + 1).replace(/^ /, "")];
      if (field === "event") type = value;
      else if (field === "id") lastEventId = value;
      else if (field === "data") data.push(value);
    }
    if (type) events.push(new MessageEvent(type, { data: data.join("\n"), lastEventId }));
  }
  return events;
}
