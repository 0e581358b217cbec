"""How a page looks: one style sheet, for light and dark, for a phone and a desk; nothing is loaded from elsewhere."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f4;--card:#fff;--ink:#16161a;--soft:#56565c;--grid:#e4e4e0;--rest:#cbcbc4;
--link:#1b5fb4;--s1:#2a78d6;--s2:#e8662f;--s3:#1baf7a;--s4:#d99400;--s5:#8a5bd6;--s6:#d9508a;--s7:#3f8f1f;--s8:#d64545}
@media(prefers-color-scheme:dark){:root{--page:#121214;--card:#1c1c1f;--ink:#f1f1ee;--soft:#b3b3ad;--grid:#333338;
--rest:#55555b;--link:#7db4f5;--s1:#4a93ea;--s2:#ee7a48;--s3:#2bbd89;--s4:#d9a022;--s5:#a685e6;--s6:#e274a4;--s7:#5fae3e;
--s8:#e87070}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:28px 16px 48px}
header{margin:0 4px 20px}
.kind{margin:0;color:var(--soft);font-size:13px;letter-spacing:.06em;text-transform:uppercase}
h1{margin:2px 0 6px;font-size:26px;line-height:1.2;font-weight:650;overflow-wrap:anywhere}
h2{margin:0 0 4px;font-size:16px;font-weight:620}
p{margin:0 0 8px}
.lead{max-width:75ch;font-size:16px;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 16px}
.facts div,section{background:var(--card);border:1px solid var(--grid);border-radius:10px}
.facts div{padding:10px 14px}
dt{color:var(--soft);font-size:13px}
dd{margin:0;font-size:22px;font-weight:620;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
dd small{display:block;color:var(--soft);font-size:13px;font-weight:400}
section{padding:16px 18px;min-width:0;margin-bottom:16px}
.columns{display:flex;flex-direction:column}
.column{display:contents}
section>p,.none{color:var(--soft);font-size:14px;overflow-wrap:anywhere}
figure{margin:6px 0 0}
svg{display:block;width:100%;max-width:600px;height:auto;margin:0 auto}
svg text{font-family:inherit!important;font-variant-numeric:tabular-nums}
.key{display:flex;flex-wrap:wrap;gap:2px 16px;margin:4px 0 6px;padding:0;list-style:none;color:var(--soft);
font-size:13px}
.key i{display:inline-block;width:10px;height:10px;margin-right:6px;border-radius:3px}
summary{margin-top:8px;color:var(--link);font-size:14px;cursor:pointer}
.scroll{overflow-x:auto;margin-top:8px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top;
overflow-wrap:break-word}
th{color:var(--soft);font-weight:500;white-space:nowrap}
td.n,th.n{text-align:right;padding-right:0;padding-left:14px;white-space:nowrap}
tr:last-child td{border-bottom:0}
.pairs td:first-child{color:var(--soft);width:21em}
.pairs td{overflow-wrap:anywhere;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
footer{margin:20px 4px 0;color:var(--soft);font-size:13px}
@media(min-width:900px){.columns{flex-direction:row;gap:16px}.column{display:block;flex:1 1 0;min-width:0}}
@media(max-width:600px){main{padding:18px 10px 32px}section{padding:14px 12px}h1{font-size:22px}
.facts{grid-template-columns:1fr 1fr;gap:8px}.pairs td:first-child{width:auto}.pairs td{display:block;border:0;
padding:1px 0}
.pairs tr{display:block;padding:5px 0;border-bottom:1px solid var(--grid)}}
"""
