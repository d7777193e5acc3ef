'use strict';
const by = id => document.getElementById(id);
const [frame, file, model, locked, key, form, question, ask, temperature, tokens, answer, aloud, looking, phrase, look, back, said] =
  ['frame', 'file', 'model', 'locked', 'key', 'form', 'question', 'ask', 'temperature', 'tokens', 'answer', 'aloud', 'looking', 'phrase',
    'look', 'back', 'said'].map(by);
// The painting as a data URI, the name of its file, the question with its answer, and the request under way.
let picture = null, title = '', asked = null, running = null;

const say = (text, bad = false) => { said.textContent = text; said.classList.toggle('bad', bad); };
const refresh = () => {
  ask.textContent = running ? 'Stop' : 'Ask';
  ask.disabled = !picture && !running;
  look.disabled = !asked || look.hidden || !phrase.value.trim() || !!running;
};
const show = (address, alt) => {
  const image = new Image();
  image.alt = alt;
  image.src = address;
  frame.replaceChildren(image);
  frame.classList.add('full');
};
// In place of a painting that the browser cannot show.
const name = text => {
  const span = document.createElement('span');
  span.textContent = text;
  frame.replaceChildren(span);
  frame.classList.remove('full');
};
const showPainting = () => {
  if (title.shown) show(picture, `Painting: ${title.name}`); else name(`${title.name} (this browser does not show TIFF)`);
  back.hidden = true;
};

const read = (chosen, how) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader[how](chosen);
});
const isTiff = async chosen => {
  const head = new Uint8Array(await read(chosen.slice(0, 4), 'readAsArrayBuffer'));
  return ['73,73,42,0', '77,77,0,42'].includes(head.join());
};
// Takes a file if it is a picture; otherwise everything stays as it is.
async function take(chosen) {
  if (!chosen) return;
  let shown = true;
  try {
    const address = URL.createObjectURL(chosen);
    const image = new Image();
    image.src = address;
    try { await image.decode(); } catch {
      shown = false;
      if (!await isTiff(chosen)) return say(`${chosen.name} is not a picture`, true);
    } finally { URL.revokeObjectURL(address); }
    const taken = await read(chosen, 'readAsDataURL');
    running?.abort();
    await running?.ended;
    [picture, title] = [taken, { name: chosen.name, shown }];
  } catch { return say(`${chosen.name} cannot be read`, true); }
  asked = null;
  showPainting();
  write();
}

const headers = () => ({ 'content-type': 'application/json', ...(key.value && { authorization: `Bearer ${key.value}` }) });
// The server's error, or what else went wrong.
const trouble = async response => {
  if (response.status === 401) { locked.hidden = false; key.focus(); }
  return (await response.json().catch(() => null))?.error?.message ?? `the server answers ${response.status}`;
};
const user = text => ({ role: 'user', content: [{ type: 'image_url', image_url: { url: picture } }, { type: 'text', text }] });
const send = (path, body, signal) => fetch(path, { method: 'POST', headers: headers(), body: JSON.stringify(body), signal });
// Runs one request at a time.
async function alone(work) {
  const run = running = new AbortController();
  let end;
  run.ended = new Promise(resolve => { end = resolve; });
  refresh();
  try { await work(run.signal); } catch (error) {
    say(error.name === 'AbortError' ? 'stopped' : error.message, error.name !== 'AbortError');
  }
  running = null;
  end();
  refresh();
}

const write = () => alone(async signal => {
  asked = null;
  answer.textContent = aloud.textContent = phrase.value = '';
  showPainting();
  refresh();
  const began = performance.now(), text = question.value;
  say('reading the painting');
  const response = await send('/v1/chat/completions', {
    messages: [user(text)], stream: true, stream_options: { include_usage: true },
    ...(temperature.value && { temperature: Number(temperature.value) }), ...(tokens.value && { max_tokens: Number(tokens.value) }),
  }, signal);
  if (!response.ok) throw new Error(await trouble(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '', written = 0, ended = false, cut = false, notes = [], pointed = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice(5).trim();
      if (data === '[DONE]') { ended = true; continue; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      notes = chunk.notes ?? notes;
      if (chunk.regions) pointed = chunk;
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) {
        if (!answer.textContent) say('writing');
        answer.append(answer.textContent ? piece : piece.trimStart());
      }
      cut ||= chunk.choices[0]?.finish_reason === 'length';
      written = chunk.usage?.completion_tokens ?? written;
    }
  }
  if (!ended) throw new Error('the connection broke before the answer was complete');
  answer.normalize();
  asked = { question: text, answer: answer.textContent };
  if (pointed) {
    answer.textContent = pointed.text;
    if (title.shown) await point(pointed.regions);
    notes = [`outlined: ${names(pointed.regions)}`, ...notes];
  }
  // Once, and complete: a screen reader would stutter at every piece.
  aloud.textContent = answer.textContent;
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  say([`${written} tokens in ${seconds} s${cut ? ', cut there' : ''}${look.hidden ? '' : '; select words of the answer to see their attention map'}`, ...notes].join('. '));
});

const attend = words => alone(async signal => {
  say(`looking for “${words}”`);
  const body = { messages: [user(asked.question), { role: 'assistant', content: asked.answer }], phrase: words };
  const response = await send('/attention', body, signal);
  if (!response.ok) throw new Error(await trouble(response));
  show(URL.createObjectURL(await response.blob()), `Painting: ${title.name}, bright where the attention of “${words}” is above the average`);
  back.hidden = false;
  say(`bright: more attention than usual while “${words}” was generated. A trace of the model, not an explanation.`);
});

// The painting with what an answer points at: outlines, each with its number, from 0 to 999 of width and height.
const COLORS = ['#e63946', '#2a78d6', '#1b9358', '#f59e0b', '#9b51e0', '#14a0aa'];
async function point(regions) {
  const image = new Image();
  image.src = picture;
  await image.decode();
  const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  pen.drawImage(image, 0, 0);
  const size = Math.max(14, Math.round(Math.min(canvas.width, canvas.height) / 24));
  pen.lineWidth = Math.max(2, size / 7);
  pen.font = `600 ${size}px sans-serif`;
  pen.textBaseline = 'top';
  const place = ([x, y]) => [x * canvas.width / 1000, y * canvas.height / 1000];
  regions.forEach(({ shapes }, at) => {
    pen.strokeStyle = pen.fillStyle = COLORS[at % COLORS.length];
    for (const { box, quad } of shapes) {
      const corners = (box ? [box[0], [box[1][0], box[0][1]], box[1], [box[0][0], box[1][1]]] : quad).map(place);
      pen.beginPath();
      corners.forEach(corner => pen.lineTo(...corner));
      pen.closePath();
      pen.stroke();
      const number = String(at + 1), wide = pen.measureText(number).width + size / 2;
      const left = Math.max(0, Math.min(corners[0][0], canvas.width - wide)), top = Math.max(0, Math.min(corners[0][1], canvas.height - size * 1.2));
      pen.fillRect(left, top, wide, size * 1.2);
      pen.fillStyle = '#fff';
      pen.fillText(number, left + size / 4, top + size / 10);
      pen.fillStyle = pen.strokeStyle;
    }
  });
  show(canvas.toDataURL(), `Painting: ${title.name}, with outlines: ${names(regions)}`);
  back.hidden = false;
}
const names = regions => regions.map(({ name }, at) => `${at + 1} ${name ?? 'without a name'}`).join(', ');

// The model's name and its default settings.
async function introduce() {
  const response = await fetch('/v1/models', { headers: headers() }).catch(() => null);
  if (!response?.ok) return say(response ? await trouble(response) : 'the server does not answer', true);
  const { id, defaults, attention_maps: maps } = (await response.json()).data[0];
  for (const part of [phrase, look]) part.hidden = !maps;

  model.textContent = id;
  temperature.placeholder = defaults.temperature;
  tokens.placeholder = tokens.max = defaults.max_tokens;
  say('');
}

file.onchange = () => { take(file.files[0]); file.value = ''; };
frame.onclick = () => file.click();
frame.ondragover = event => { event.preventDefault(); frame.classList.add('over'); };
frame.ondragleave = () => frame.classList.remove('over');
frame.ondrop = event => { event.preventDefault(); frame.classList.remove('over'); take(event.dataTransfer.files[0]); };
form.onsubmit = event => { event.preventDefault(); if (running) running.abort(); else if (picture) write(); };
question.onkeydown = event => {
  if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); if (!running) form.requestSubmit(); }
};
looking.onsubmit = event => { event.preventDefault(); if (!look.disabled) attend(phrase.value.trim()); };
phrase.oninput = refresh;
locked.onsubmit = event => { event.preventDefault(); introduce(); };
key.onchange = introduce;
back.onclick = () => { showPainting(); look.focus(); };
document.onselectionchange = () => {
  const selection = getSelection(), words = selection.toString().trim();
  if (words && answer.contains(selection.anchorNode) && answer.contains(selection.focusNode)) { phrase.value = words; refresh(); }
};
introduce();
