<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{query + " – " if query else ""}}Gossamer search</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
form { display: flex; gap: .5rem; }
input { flex: 1; font: inherit; padding: .5rem .75rem; }
button { font: inherit; padding: .5rem 1rem; }
ol { padding: 0; list-style: none; }
li { padding: .75rem; border-radius: .5rem; }
li:focus { outline: 2px solid Highlight; }
h2 { font-size: 1.05rem; margin: 0; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
.small { font-size: .85rem; opacity: .75; }
</style>
</head>
<body>
<form action="/" role="search">
<input name="q" type="search" value="{{query}}" aria-label="Search {{count}} documents" placeholder="Search {{count}} documents" autofocus>
<button>Search</button>
</form>
% if query:
<p class="small" role="status">{{len(found)}} shown, {{"%.1f" % milliseconds}} ms. Keys: / search, j and k next and previous, Enter what matched.</p>
% end
<ol>
% for hit in found:
<li tabindex="0">
<h2>{{hit["title"]}}</h2>
<p class="small">{{hit["id"]}} · {{"%.3f" % hit["score"]}}</p>
<p>\\
% for text, marked in hit["passage"]:
{{!"<mark>" if marked else ""}}{{text}}{{!"</mark>" if marked else ""}}\\
% end
</p>
<details><summary>What matched</summary>
<table>
% for term, score, literal in hit["terms"]:
<tr><td>{{term}}{{"" if literal else " (related)"}}</td><td>{{"%.3f" % score}}</td></tr>
% end
</table></details>
</li>
% end
</ol>
<script>
const hits = [...document.querySelectorAll("li")];
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.tagName === "INPUT";
  const at = hits.indexOf(document.activeElement);
  if (event.key === "Escape" && typing) { event.target.blur(); hits[0]?.focus(); }
  else if (typing) { if (event.key === "ArrowDown" && hits.length) { event.preventDefault(); hits[0].focus(); } }
  else if (event.key === "/") { event.preventDefault(); document.querySelector("input").select(); }
  else if (event.key === "j" || event.key === "ArrowDown") { event.preventDefault(); hits[Math.min(at + 1, hits.length - 1)]?.focus(); }
  else if (event.key === "k" || event.key === "ArrowUp") { event.preventDefault(); hits[Math.max(at - 1, 0)]?.focus(); }
  else if (event.key === "Enter" && at >= 0) { const own = hits[at].querySelector("details"); own.open = !own.open; }
});
</script>
</body>
</html>
