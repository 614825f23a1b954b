"""A database's schema as a set of sentences, so that two can be compared."""

from collections.abc import Collection

import psycopg

SCHEMAS = ["app", "silver", "gold", "quality", "staging", "marts", "dagster"]
# Each gives sentences. Names of relations come first, so that those of some can be left out.
_QUERIES = (
    # relations, with who may do what with them
    """
    SELECT n.nspname || '.' || c.relname,
      format('is %s%s, rows %s, options %s, %s, told %s', c.relkind, c.relpersistence, c.relrowsecurity,
        c.reloptions::text,
        (SELECT string_agg(g.grantee::regrole || ' ' || g.privilege_type, ', '
                ORDER BY g.grantee::regrole::text, g.privilege_type)
         FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g),
        obj_description(c.oid, 'pg_class'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY({schemas}) AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
    """,
    """
    SELECT n.nspname || '.' || c.relname,
      format('column %s %s null %s default %s %s%s, %s, told %s', a.attname,
        format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
        a.attidentity, a.attgenerated,
        (SELECT string_agg(g.grantee::regrole || ' ' || g.privilege_type, ', '
                ORDER BY g.grantee::regrole::text, g.privilege_type) FROM aclexplode(a.attacl) g),
        col_description(c.oid, a.attnum))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE n.nspname = ANY({schemas}) AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
    """,
    """
    SELECT n.nspname || '.' || c.relname, format('constraint %s %s', k.conname, pg_get_constraintdef(k.oid))
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY({schemas}) AND NOT c.relispartition
    """,
    """
    SELECT n.nspname || '.' || c.relname, 'index ' || pg_get_indexdef(i.indexrelid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY({schemas}) AND NOT c.relispartition
    """,
    """
    SELECT n.nspname || '.' || c.relname,
      format('policy %s for %s %s to %s using %s check %s', p.polname, p.polcmd, p.polpermissive,
        (SELECT string_agg(r::regrole::text, ', ' ORDER BY r::regrole::text) FROM unnest(p.polroles) r),
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY({schemas}) AND NOT c.relispartition
    """,
    """
    SELECT n.nspname || '.' || c.relname, 'trigger ' || pg_get_triggerdef(t.oid)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY({schemas}) AND NOT t.tgisinternal AND NOT c.relispartition
    """,
    """
    SELECT n.nspname || '.' || p.proname,
      format('function (%s) %s, %s, told %s', pg_get_function_identity_arguments(p.oid),
        pg_get_functiondef(p.oid),
        (SELECT string_agg(CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END, ', '
                ORDER BY CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END)
         FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g),
        obj_description(p.oid, 'pg_proc'))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY({schemas})
    """,
    """
    SELECT n.nspname, format('schema: %s',
      (SELECT string_agg(g.grantee::regrole || ' ' || g.privilege_type, ', '
              ORDER BY g.grantee::regrole::text, g.privilege_type)
       FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) g))
    FROM pg_namespace n WHERE n.nspname = ANY({schemas})
    """,
    """
    SELECT coalesce(n.nspname, ''),
      format('default of %s for %s: %s', d.defaclrole::regrole, d.defaclobjtype, d.defaclacl)
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    """,
)


def schema_of(url: str, but: Collection[str] = ()) -> frozenset[str]:
    """All of it; `but`: relations that are left out (`silver.orders`)."""
    found = set()
    with psycopg.connect(url) as connection:
        for query in _QUERIES:
            text = query.replace("{schemas}", f"'{{{','.join(SCHEMAS)}}}'::text[]")
            rows = connection.execute(text.encode()).fetchall()
            found |= {f"{name} {told}" for name, told in rows if name not in but}
    return frozenset(found)
